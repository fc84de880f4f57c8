/* `crocuta config`: what configurations are shipped, one of them with comments to start from, and
 * the page of documentation that the key table makes. */
#include "launch/cli.h"
#include "launch/shipped.h"
#include "runtime/core/config.h"
#include "runtime/core/nearest.h"
#include "runtime/core/sweep_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char about[] = "Prints a configuration with every key, its meaning and its default, "
                            "to be redirected into a file and edited.\n"
                            "NAME is a shipped configuration, a preset, or a file. Without NAME it "
                            "lists what is shipped.\n\n"
                            "Example:\n  crocuta config fpe-alpha > my.yaml";

static status list_all(void)
{
    char name[SHIPPED_NAME];
    char first[256];
    printf("Shipped configurations:\n");
    shipped_list list;
    TRY(shipped_open(&list));
    while (shipped_next(&list, name, first))
        printf("  %-16s %s\n", name, first);
    shipped_close(&list);
    printf("Presets:\n");
    for (int i = 0; config_preset_name(i); i++)
        printf("  %s\n", config_preset_name(i));
    return STATUS_OK;
}

/* A preset as a configuration of its own. */
static status from_preset(config *c, const char *name)
{
    config_defaults(c);
    return config_preset(c, name);
}

static bool is_preset(const char *name)
{
    for (int i = 0; config_preset_name(i); i++)
        if (strcmp(config_preset_name(i), name) == 0)
            return true;
    return false;
}

static status print_file(const char *path)
{
    char piece[4096];
    size_t n;
    FILE *in = fopen(path, "rb");
    if (!in)
        return fail(STATUS_USAGE, "%s: %s; look at its permissions", path, strerror(errno));
    while ((n = fread(piece, 1, sizeof piece, in)) > 0)
        fwrite(piece, 1, n, stdout);
    fclose(in);
    return STATUS_OK;
}

static status print_one(const char *name)
{
    config *c = calloc(1, sizeof *c);
    if (!c)
        return fail(STATUS_MEMORY, "%s: no memory for a configuration; close other programs", name);
    char path[CONFIG_TEXT];
    status st;
    if (shipped_find(name, path) && sweep_file_is(path)) {
        free(c);
        return print_file(path); /* its comments are its own */
    }
    if (shipped_find(name, path)) {
        config_defaults(c);
        st = config_read(c, path);
        c->file[0] = '\0'; /* data.path stays as it is written: relative to where this is saved */
    } else if (is_preset(name)) {
        st = from_preset(c, name);
    } else {
        st = shipped_unknown(name);
    }
    if (st == STATUS_OK)
        st = config_write(c, stdout, true);
    free(c);
    return st;
}

status command_config(const cli *c)
{
    bool markdown = false, done;
    const option own[] = {
        {"markdown", 0, OPTION_FLAG, &markdown, NULL, "print docs/configuration.md"},
        {NULL, 0, OPTION_FLAG, NULL, NULL, NULL},
    };
    cli_common common;
    const char **args;
    int n;
    TRY(cli_parse(c, "[NAME]", about, own, &common, &args, &n, &done));
    if (done || comm_rank(c->world) != 0)
        return STATUS_OK;
    if (n > 1)
        return fail(STATUS_USAGE, "config: one name at a time; see crocuta config --help");
    if (markdown)
        return config_document(stdout);
    return n == 0 ? list_all() : print_one(args[0]);
}
