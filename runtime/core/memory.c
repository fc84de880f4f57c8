/* Memory that is left: see memory.h. */
#include "runtime/core/memory.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The number in a small file of the kernel; -1 where there is none ("max"). */
static int64_t number_in(const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in)
        return -1;
    long long x = -1;
    if (fscanf(in, "%lld", &x) != 1)
        x = -1;
    fclose(in);
    return x;
}

/* The number after a word at the start of a line; 0 where there is none. */
static int64_t number_after(const char *path, const char *word)
{
    FILE *in = fopen(path, "r");
    char line[256];
    long long x = 0;
    const size_t n = strlen(word);
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, word, n) == 0 && sscanf(line + n, " %lld", &x) == 1)
            break;
    if (in)
        fclose(in);
    return x;
}

static int64_t less(int64_t bytes, int64_t other)
{
    return bytes == 0 || other < bytes ? other : bytes;
}

/* Pages that hold files are counted as used but given up when asked for. */
static int64_t group_left(const char *limit, const char *used, const char *stat)
{
    const int64_t most = number_in(limit), now = number_in(used);
    if (most <= 0 || now < 0)
        return -1;
    const int64_t left =
        most - now + number_after(stat, "inactive_file ") + number_after(stat, "active_file ");
    return left > 0 ? left : 1;
}

/* ulimit -v */
static int64_t limit_left(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
        return -1;
    const int64_t pages = number_in("/proc/self/statm");
    const int64_t left = (int64_t)r.rlim_cur - (pages > 0 ? pages : 0) * sysconf(_SC_PAGESIZE);
    return left > 0 ? left : 1;
}

void memory_peak_begin(void)
{
    malloc_trim(0);
    FILE *to = fopen("/proc/self/clear_refs", "w");
    if (!to)
        return;
    fputs("5", to); /* proc(5): resets the peak resident set size */
    fclose(to);
}

int64_t memory_available(void)
{
    int64_t bytes = 1024 * number_after("/proc/meminfo", "MemAvailable:");
    const int64_t left[] = {
        group_left("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                   "/sys/fs/cgroup/memory.stat"),
        group_left("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                   "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                   "/sys/fs/cgroup/memory/memory.stat"),
        limit_left(),
    };
    for (int i = 0; i < 3; i++)
        if (left[i] > 0)
            bytes = less(bytes, left[i]);
    return bytes;
}
