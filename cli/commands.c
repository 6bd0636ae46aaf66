/* The table of commands, and the help that follows from it and from the table of flags. */
#include "cli/commands.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const ts_command commands[] = {
    {"generate", TS_CMD_GENERATE, "\"a prompt\" [-o FILE] [flags]",
     "Render a clip or a picture from a prompt",
     "The name of the output decides what is written: a .png is one frame, .mp4, .webm and .gif "
     "are clips. Its path is printed on stdout.",
     0, 1, NULL, ts_cli_generate},
    {"decode", TS_CMD_DECODE, "LATENTS [-o FILE] [flags]",
     "Finish from latents that generate --save-latents wrote",
     "Model, size, rate and prompt come from the file's metadata.", 1, 1, "a latents file",
     ts_cli_decode},
    {"info", TS_CMD_INFO, "[FILE | DIR | ORG/NAME]... [flags]",
     "What a file was made from, or what a model holds and needs",
     "FILE: whatever tessera writes (clip, picture, latents, state, plans, tiles, manifest, "
     "report), "
     "or weights. DIR: a diffusers folder, the output of a batch, frames, encoded texts. Without "
     "either: the model that comes with tessera.",
     0, INT_MAX, NULL, ts_cli_info},
    {"models", TS_CMD_MODELS, "[DIR]... [flags]",
     "Which models are there, whether they are complete and fit this machine",
     "Lists the Hugging Face cache and the folders given, and commands that download others.", 0,
     INT_MAX, NULL, ts_cli_models},
    {"tokens", TS_CMD_TOKENS, "\"a text\" [flags]",
     "The pieces and ids that a model's text encoder reads", NULL, 1, 1, "a text", ts_cli_tokens},
    {"batch", TS_CMD_BATCH, "FILE... --out DIR [flags]",
     "Render every row of prompt files; stopped at any moment, the same command goes on",
     "FILE: text (a prompt a line, options behind it: --w 832 --h 480 --f 81 --d SEED --s STEPS "
     "--g X --n NEGATIVE), .jsonl, .csv, or - for standard input.\n"
     "Keys of JSONL and columns of CSV are prompt and the flags' names without dashes. Flags are "
     "the defaults of all rows.",
     0, INT_MAX, NULL, ts_cli_batch},
    {"bench", TS_CMD_BENCH, "\"a prompt\"... | --step | --kernel [flags]",
     "Measure what sparse attention gains and costs against full attention",
     "Prompts: the same clips under several policies, in turns. --step: single evaluations of the "
     "transformer. --kernel: the attention kernels alone, beside the machine's peak.",
     0, INT_MAX, NULL, ts_cli_bench},
    {"search-tile", TS_CMD_SEARCH_TILE, "\"a prompt\"... [-o FILE] [flags]",
     "Find the sparsest attention tile that each layer of a model bears",
     "Renders the prompts with full attention, compares, and writes a file for --attention "
     "tile:file=FILE. Its path is printed on stdout.",
     1, INT_MAX, "a prompt", ts_cli_search_tile},
    {"config", TS_CMD_CONFIG, "", "Print the configuration file, where it is and what it says",
     "Flags by line, without dashes: steps = 30, in sections [COMMAND], [model NAME] and [preset "
     "NAME]; those before a section are of all commands. What the command line says goes before "
     "them. The file is $TESSERA_CONFIG, or tessera/config in $XDG_CONFIG_HOME or ~/.config.",
     0, 0, NULL, ts_cli_config},
    {"completion", TS_CMD_COMPLETION, "bash | zsh | fish",
     "Print the script by which a shell completes commands, flags and their values",
     "For this session: source <(tessera completion bash), the same of zsh, or tessera completion "
     "fish | source. make install puts all three where the shells look.",
     1, 1, "a shell", ts_cli_completion},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

const ts_command *ts_commands(int *count)
{
    *count = COMMANDS;
    return commands;
}

const ts_command *ts_command_find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name)) return commands + i;
    return NULL;
}

static void print_paragraph(const char *text, int width)
{
    ts_print_wrapped(stdout, text, 0, 0, width);
}

static void print_command_help(const ts_command *c, int width)
{
    int used = printf("usage: tessera %s ", c->name);
    ts_print_wrapped(stdout, c->arguments, used, used, width);
    printf("\n%s.\n", c->summary);
    if (c->more) print_paragraph(c->more, width);
    ts_flags_help(stdout, c->bit, width);
}

void ts_command_help(const ts_command *c)
{
    enum { COLUMN = 14 };
    int width = ts_help_width(stdout, getenv("COLUMNS"));
    if (c) {
        print_command_help(c, width);
        return;
    }
    printf("tessera %s: ", ts_version());
    print_paragraph("pictures and clips from open diffusion transformers", width);
    puts("\nusage: tessera COMMAND ...\n");
    for (int i = 0; i < COMMANDS; i++) {
        printf("  %-11s ", commands[i].name);
        ts_print_wrapped(stdout, commands[i].summary, COLUMN, COLUMN, width);
    }
    printf("  %-11s ", "help");
    ts_print_wrapped(stdout, "Flags of a command: tessera help generate", COLUMN, COLUMN, width);
    puts("\nfor instance:\n  tessera generate \"a panda\" -o panda.mp4\n"
         "  tessera generate \"a panda\" -o panda.png --seed 7\n  tessera info panda.mp4\n");
    print_paragraph("exit codes: 0 done, 1 some jobs failed, 2 usage, 3 an input can not be used, "
                    "4 machine or numbers failed, 130 Ctrl-C, 143 SIGTERM. The manual: man "
                    "tessera. Version and libraries: tessera --version",
                    width);
}
