"""Writes tests/prompts/caption_rows.h: captions and what diffusers' PixArt pipeline makes of them
(clean_caption). Needs diffusers, transformers, torch, ftfy and beautifulsoup4.

python3 tools/make_captions.py > tests/prompts/caption_rows.h
"""

import sys

import ftfy
from diffusers import PixArtAlphaPipeline

CAPTIONS = [
    "",
    "   ",
    "A small cactus with a happy face in the Sahara desert.",
    "An ASTRONAUT riding a Zebra",
    "  trim   me\t\n please  ",
    "caf%C3%A9+au+lait 100%25",
    "50% off + free shipping today",
    "%e2%82%ac%E2%82 %ff %zz 100%",
    "<person> waves at <person>",
    "see https://example.com/a_b/c and http://x.org",
    "www:foo.com or foo.co.uk/bar or sub-domain.example.org/path_x/",
    "mail me at bob@site.com now",
    '<b>bold</b> and <i class="x > y">italic</i> &amp; more',
    "a <3 b < c > d",
    "unfinished <tag here",
    "<!-- hidden --> seen",
    "<script>var x = 1;</script>after",
    "AT&T and R&D; &copy; &notanentity; &#65;&#x42; &quot;q&quot;",
    "tail &amp",
    "tail &t",
    "tail &",
    "follow @some_one_1 please",
    "日本の猫 cat 漢字",
    "em—dash en–dash minus−",
    "« quoted » “curly” ‘single’ `tick` ´acute´ ¨",
    "ip 192.168.10.1 ok",
    "at 9:30 ",
    "clock 9:30\t",
    "a\\nb literal",
    "#12 #1234 #12345 #abc 123456 12345 x1234567",
    "photo.jpg and my-file_01.PNG, archive.apk",
    '"""AUSVERKAUFT""" \'\' "\'',
    "wait... what.. ok.",
    "***SALE***, #SALE (new) [tag] {x} |pipe| ~tilde~ a/b a\\b • ® © ™ º ½ ¾ ¿ ¡ §",
    "left . right",
    "this-is-my-cute-cat",
    "this_is-three_x",
    "a-b-c-d",
    "jc6640 jc6640vc 6640vc231 a1 abcd1234",
    "worldwide free shipping and shipping",
    "free download free click for more click on this",
    "png image and jpeg images, bmpx webp",
    "on page 12 of pages 3",
    "j2d1a2a x9y8z7",
    "1024x768 and 3.5 x 2 and 12х34 and 5×7",
    "word : word :word",
    "one,two.three/four 1,5 2.5 a.b",
    "'quoted all of it'",
    '"x"',
    "_leading",
    ":lead",
    "-dash",
    "trailing-",
    "trailing:",
    "trailing+",
    ".hidden",
    ".hidden word",
    "ﬁne Ｆｕｌｌ ｗｉｄｔｈ！",
    "ΟΔΥΣΣΕΥΣ and ΑΣ Σ",
    "İstanbul ÇÖŞ ẞ",
    "naïve 🙂 emoji",
    "a\u00a0b\u2003c",
    "10 000 000 people",
    "٣٤٥٦٧٨ digits",
    "x\x01y control",
    "<rt>no</rt>yes <style>p{}</style>z",
    "<img src='a.png' alt=\"b\"/>pic<br>next",
    "<a href=x.html>link</a",
    "5 < 6 && 7 > 2",
    "%3Cb%3Ehi%3C/b%3E",
    "&lt;b&gt;twice&lt;/b&gt;",
    "&amp;lt;i&amp;gt;",
    "u.s.a. and e.g. this",
    "price: $1,000.00!",
    "don't 'quote' me",
    "“”",
    "…",
    "C++ and C#",
    "a photo of a cat, highly detailed, 8k, f/1.8, iso100, 35mm",
    "portrait of [name], by greg-rutkowski, trending on artstation.com",
]


def quoted(s):
    out = ""
    for b in s.encode():
        out += "\\%03o" % b if b < 32 or b > 126 or chr(b) in '"\\?' else chr(b)
    return '"%s"' % out


def main():
    real = ftfy.fix_text
    ftfy.fix_text = lambda t: real(t, fix_encoding=False)  # mojibake is not guessed at
    pipe = PixArtAlphaPipeline.__new__(PixArtAlphaPipeline)
    print("/* Made by tools/make_captions.py: captions and what diffusers makes of them. */")
    print("static const struct { const char *text, *clean; } captions[] = {")
    for c in CAPTIONS:
        print(
            "    {%s, %s},"
            % (
                quoted(c),
                quoted(PixArtAlphaPipeline._text_preprocessing(pipe, c, clean_caption=True)[0]),
            )
        )
    print("};")


if __name__ == "__main__":
    sys.exit(main())
