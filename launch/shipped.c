/* Finding the shipped configurations from wherever the program lies. */
#include "launch/shipped.h"

#include "launch/cli.h"
#include "runtime/core/nearest.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool find_folder(char folder[CONFIG_TEXT])
{
    const char *home = getenv("CROCUTA_HOME");
    if (home && snprintf(folder, CONFIG_TEXT, "%s/experiments", home) < CONFIG_TEXT &&
        is_folder(folder))
        return true;
    char program[CONFIG_TEXT];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 5;
         up++) { /* SOURCE/build/release/launch/crocuta, or PREFIX/bin/crocuta */
        char *slash = strrchr(program, '/');
        if (!slash)
            break;
        *slash = '\0';
        static const char *const places[] = {"experiments", "share/crocuta/experiments"};
        for (int i = 0; i < 2; i++)
            if (snprintf(folder, CONFIG_TEXT, "%s/%s", program, places[i]) < CONFIG_TEXT &&
                is_folder(folder))
                return true;
    }
    return false;
}

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISDIR(s.st_mode);
}

bool shipped_find(const char *name, char path[CONFIG_TEXT])
{
    char folder[CONFIG_TEXT];
    if (is_file(name))
        return snprintf(path, CONFIG_TEXT, "%s", name) < CONFIG_TEXT;
    return !strchr(name, '/') && find_folder(folder) &&
           snprintf(path, CONFIG_TEXT, "%s/%s.yaml", folder, name) < CONFIG_TEXT && is_file(path);
}

status shipped_from_here(const char **override)
{
    static const char key[] = "data.path=";
    char here[CONFIG_TEXT];
    const size_t n = sizeof key - 1;
    if (strncmp(*override, key, n) != 0 || (*override)[n] == '/' || (*override)[n] == '\0')
        return STATUS_OK;
    if (!getcwd(here, sizeof here))
        return fail(STATUS_RESOURCE, "data.path: this folder has no name; give it from /");
    const size_t room = n + strlen(here) + 1 + strlen(*override + n) + 1;
    char *text = malloc(room);
    if (!text)
        return fail(STATUS_MEMORY, "data.path: no memory; close other programs");
    snprintf(text, room, "%s%s/%s", key, here, *override + n);
    *override = text;
    return STATUS_OK;
}

status shipped_read(const char *command, const char **args, int n, config *c)
{
    char path[CONFIG_TEXT];
    const bool shipped = !is_file(args[0]) && shipped_find(args[0], path);
    config_defaults(c);
    TRY(config_read(c, shipped ? path : args[0]));
    for (int i = 1; i < n; i++) {
        const char *override = args[i];
        if (!cli_is_override(override))
            return fail(STATUS_USAGE,
                        "%s: %s is neither an option nor key=value; see crocuta %s --help", command,
                        override, command);
        if (shipped)
            TRY(shipped_from_here(&override));
        TRY(config_override(c, override));
    }
    return STATUS_OK;
}

static int yaml_only(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 5 && n < SHIPPED_NAME && e->d_name[0] != '.' &&
           strcmp(e->d_name + n - 5, ".yaml") == 0;
}

status shipped_open(shipped_list *list)
{
    memset(list, 0, sizeof *list);
    struct dirent **entries = NULL;
    if (!find_folder(list->folder) ||
        (list->n = scandir(list->folder, &entries, yaml_only, alphasort)) < 0)
        return fail(
            STATUS_USAGE,
            "experiments: the folder is not beside the program; set CROCUTA_HOME to the folder "
            "that holds it");
    list->entries = entries;
    return STATUS_OK;
}

static void first_comment(const char *path, char comment[256])
{
    comment[0] = '\0';
    FILE *in = fopen(path, "r");
    if (!in)
        return;
    if (!fgets(comment, 256, in) || comment[0] != '#')
        comment[0] = '\0';
    fclose(in);
    comment[strcspn(comment, "\r\n")] = '\0';
    size_t skip = strspn(comment, "# ");
    memmove(comment, comment + skip, strlen(comment + skip) + 1);
}

bool shipped_next(shipped_list *list, char name[SHIPPED_NAME], char comment[256])
{
    if (list->at >= list->n)
        return false;
    struct dirent **entries = list->entries;
    const char *file = entries[list->at++]->d_name;
    char path[CONFIG_TEXT + 256];
    snprintf(path, sizeof path, "%s/%s", list->folder, file);
    first_comment(path, comment);
    snprintf(name, SHIPPED_NAME, "%.*s", (int)(strlen(file) - 5), file);
    return true;
}

void shipped_close(shipped_list *list)
{
    struct dirent **entries = list->entries;
    for (int i = 0; i < list->n; i++)
        free(entries[i]);
    free(entries);
    memset(list, 0, sizeof *list);
}

status shipped_unknown(const char *name)
{
    shipped_list list;
    TRY(shipped_open(&list));
    char known[SHIPPED_NAME], comment[256], best[SHIPPED_NAME] = "";
    int distance = 0;
    while (shipped_next(&list, known, comment)) {
        nearest near = {.name = name};
        nearest_offer(&near, known);
        if (near.best && (!best[0] || near.distance < distance)) {
            snprintf(best, sizeof best, "%s", known);
            distance = near.distance;
        }
    }
    shipped_close(&list);
    if (best[0])
        return fail(
            STATUS_USAGE,
            "%.200s: no such file or shipped configuration (did you mean %s?); crocuta config "
            "lists them",
            name, best);
    return fail(STATUS_USAGE,
                "%.200s: no such file or shipped configuration; crocuta config lists them", name);
}
