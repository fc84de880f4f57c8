/* The folder of a run: see run_directory.h. */
#include "runtime/train/run_directory.h"

#include "runtime/core/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define LOCK_TEXT 256
#define SWEEP_MARK "sweep.json" /* a folder of many runs */

static void path_of(char *path, size_t size, const char *run, const char *name)
{
    snprintf(path, size, "%s/%s", run, name);
}

static bool there(const char *run, const char *name)
{
    char path[CONFIG_TEXT + 64];
    struct stat s;
    path_of(path, sizeof path, run, name);
    return stat(path, &s) == 0;
}

static bool empty_folder(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    if (!d)
        return false;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n == 0;
}

static bool is_run(const char *path)
{
    return there(path, LOCK_NAME) || there(path, "config.yaml") || there(path, "checkpoints");
}

static void read_holder(int fd, char text[LOCK_TEXT])
{
    ssize_t n = pread(fd, text, LOCK_TEXT - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static void write_holder(int fd)
{
    char host[128] = "?", when[64], text[LOCK_TEXT];
    gethostname(host, sizeof host - 1);
    time_t now = time(NULL);
    struct tm t;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &t));
    int n = snprintf(text, sizeof text, "process %ld on %s since %s\n", (long)getpid(), host, when);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        log_warning("run: the lock does not say who holds it: %s", strerror(errno));
}

/* An earlier job that died leaves its text behind; one that ended takes it away. */
static status lock_take(run_directory *r)
{
    char path[CONFIG_TEXT + 64], holder[LOCK_TEXT];
    path_of(path, sizeof path, r->path, LOCK_NAME);
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->lock < 0)
        return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path,
                    strerror(errno));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = fcntl(r->lock, F_SETLK, &l);
    int why = errno;
    read_holder(r->lock, holder);
    if (rc != 0) {
        close(r->lock);
        r->lock = -1;
        if (why == EACCES || why == EAGAIN)
            return fail(STATUS_USAGE,
                        "%s: the run directory is in use by %s; wait for that job, end it, or give "
                        "another -o",
                        r->path, holder[0] ? holder : "another job");
        return fail(STATUS_RESOURCE, "%s: %s; put the run directory on a file system with locks",
                    path, strerror(why));
    }
    if (holder[0])
        log_warning("%s: %s left the run directory without a word; this job takes it over", r->path,
                    holder);
    write_holder(r->lock);
    return STATUS_OK;
}

static status take_path(run_directory *r, const char *path)
{
    *r = (run_directory){.lock = -1};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof r->path)
        return fail(STATUS_USAGE, "-o: a path of %zu bytes is no run directory; give another", n);
    memcpy(r->path, path, n + 1);
    while (n > 1 && r->path[n - 1] == '/')
        r->path[--n] = '\0';
    return STATUS_OK;
}

status run_directory_check(run_directory *r, const char *path, bool resume, bool force)
{
    TRY(take_path(r, path));
    struct stat s;
    if (stat(path, &s) != 0)
        return STATUS_OK;
    if (!S_ISDIR(s.st_mode))
        return fail(STATUS_USAGE, "%s: it is a file, not a run directory; give another -o", path);
    if (empty_folder(path))
        return STATUS_OK;
    if (there(path, SWEEP_MARK) || !is_run(path))
        return fail(STATUS_USAGE, "%s: the folder holds something that is no run; give another -o",
                    path);
    TRY(lock_take(r));
    if (resume || force)
        return STATUS_OK;
    run_directory_leave(r);
    return fail(STATUS_USAGE,
                "%s: there is a run already; --resume continues it, --force replaces it, or give "
                "another -o",
                path);
}

static status make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return fail(STATUS_RESOURCE,
                    "%s: %s; make its parent folder, or look at permissions and "
                    "free space",
                    path, strerror(errno));
    return STATUS_OK;
}

status run_directory_hold(run_directory *r, const char *path, const char *mark)
{
    struct stat s;
    TRY(take_path(r, path));
    if (stat(path, &s) == 0 && !S_ISDIR(s.st_mode))
        return fail(STATUS_USAGE, "%s: it is a file, and a folder is to be made; give another -o",
                    path);
    /* a job that died before its first line left the lock alone */
    if (stat(path, &s) == 0 && !there(path, mark) && !empty_folder(path) &&
        (!there(path, LOCK_NAME) || there(path, "config.yaml")))
        return fail(STATUS_USAGE, "%s: the folder holds something else; give another -o", path);
    TRY(make_folder(r->path));
    return lock_take(r);
}

/* What a replaced run left: only names of ours, so that nothing else is ever taken away. */
static status clear_away(const char *run)
{
    static const char *const names[] = {"metrics.jsonl", "events.jsonl", "plan.json",
                                        "config.yaml",   "command.txt",  "versions.json",
                                        "workers.json"};
    char path[CONFIG_TEXT + 300];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(path, sizeof path, run, names[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            return fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path,
                        strerror(errno));
    }
    char dir[CONFIG_TEXT + 16];
    run_directory_checkpoints(run, dir);
    DIR *d = opendir(dir);
    status st = STATUS_OK;
    for (struct dirent *e; d && st == STATUS_OK && (e = readdir(d)) != NULL;) {
        bool ours = strncmp(e->d_name, "step-", 5) == 0 || strcmp(e->d_name, "latest") == 0 ||
                    strcmp(e->d_name, "best") == 0;
        path_of(path, sizeof path, dir, e->d_name);
        if (ours && unlink(path) != 0)
            st = fail(STATUS_RESOURCE, "%s: %s; look at the folder's permissions", path,
                      strerror(errno));
    }
    if (d)
        closedir(d);
    return st;
}

status run_directory_write(const char *run, const char *name, const char *text, bool lasting)
{
    char path[CONFIG_TEXT + 64], part[CONFIG_TEXT + 80];
    path_of(path, sizeof path, run, name);
    snprintf(part, sizeof part, "%s.tmp", path);
    FILE *f = fopen(part, "w");
    bool good = f && fputs(text, f) >= 0 && fflush(f) == 0;
    good = good && (!lasting || fsync(fileno(f)) == 0);
    int why = errno;
    if (f && fclose(f) != 0 && good) {
        good = false;
        why = errno;
    }
    if (good && rename(part, path) != 0) {
        good = false;
        why = errno;
    }
    if (good)
        return STATUS_OK;
    unlink(part);
    return fail(STATUS_RESOURCE, "%s: %s; look at free space and permissions", path, strerror(why));
}

static status write_config(const char *run, const config *c)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return fail(STATUS_MEMORY, "%s: no memory for its configuration; use more memory", run);
    status st = config_write(c, f, false);
    if (fclose(f) != 0 && st == STATUS_OK)
        st = fail(STATUS_MEMORY, "%s: no memory for its configuration; use more memory", run);
    if (st == STATUS_OK)
        st = run_directory_write(run, "config.yaml", text, true);
    free(text);
    return st;
}

status run_directory_enter(run_directory *r, const config *c, const char *command,
                           const char *versions)
{
    char path[CONFIG_TEXT + 64], line[16384];
    TRY(make_folder(r->path));
    if (r->lock < 0)
        TRY(lock_take(r));
    if (r->fresh)
        TRY(clear_away(r->path));
    run_directory_checkpoints(r->path, path);
    TRY(make_folder(path));
    path_of(path, sizeof path, r->path, "logs");
    TRY(make_folder(path));
    TRY(write_config(r->path, c));
    snprintf(line, sizeof line, "%s\n", command);
    TRY(run_directory_write(r->path, "command.txt", line, true));
    return run_directory_write(r->path, "versions.json", versions, true);
}

void run_directory_leave(run_directory *r)
{
    if (r->lock < 0)
        return;
    if (ftruncate(r->lock, 0) != 0) /* the next job would only say that this one died */
        log_warning("%s/%s: %s", r->path, LOCK_NAME, strerror(errno));
    close(r->lock);
    r->lock = -1;
}

bool run_directory_held(const char *path, char *by, size_t size)
{
    char file[CONFIG_TEXT + 64], holder[LOCK_TEXT];
    path_of(file, sizeof file, path, LOCK_NAME);
    by[0] = '\0';
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool held = fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK;
    read_holder(fd, holder);
    close(fd);
    snprintf(by, size, "%s", holder);
    return held;
}

void run_directory_checkpoints(const char *run, char path[CONFIG_TEXT + 16])
{
    snprintf(path, CONFIG_TEXT + 16, "%s/checkpoints", run);
}
