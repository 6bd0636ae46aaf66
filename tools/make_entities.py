"""Writes prompts/entities.c: the named character references of HTML5 as Python's html.entities
has them.

python3 tools/make_entities.py > prompts/entities.c
"""

from html.entities import html5


def c(text):
    return "".join("\\x%02x" % b for b in text.encode())


print(
    """\
/* Named character references of HTML5, sorted by name; those without a final ';' are the ones that
 * browsers also take without. Made by tools/make_entities.py. */
#include "prompts/entities.h"

const ts_entity ts_entities[] = {"""
)
for name in sorted(html5, key=lambda s: s.encode()):
    print('    {"%s", "%s"},' % (name, c(html5[name])))
print("};\nconst int ts_entity_count = sizeof ts_entities / sizeof *ts_entities;")
