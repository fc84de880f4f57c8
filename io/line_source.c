/* Reading, inflating and cutting into lines: see line_source.h. zlib checks each member's CRC and
 * length; what it cannot see (a bgzip file's end block, bytes behind the last member) is seen here.
 */
#include "io/line_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define INPUT_BYTES ((size_t)1 << 18)
#define TEXT_BYTES ((size_t)1 << 20)
#define LINE_MOST ((size_t)1 << 31) /* bytes: a record of 500 million people */
#define BGZF_HEADER 18

typedef enum { PLAIN, MEMBER_START, MEMBER_INSIDE, ENDED } source_state;

struct line_source {
    char path[1024];
    int fd;
    int64_t file_bytes, read_bytes, line;
    bool compressed, bgzf, last_empty;   /* bgzf: the first member was a block of bgzip */
    bool input_ended, started, cut_line; /* cut_line: the last one may lack its newline */
    source_state state;
    z_stream z;
    unsigned char *input; /* (INPUT_BYTES) */
    size_t in0, in1;      /* unread bytes of it */
    char *text;           /* (room) decompressed */
    size_t room, at, end; /* unread: [at, end) */
    bool member_bgzf;
    size_t member_bytes; /* compressed, as a bgzip block's header states them */
};

int64_t line_source_line(const line_source *s)
{
    return s->line;
}

int64_t line_source_read_bytes(const line_source *s)
{
    return s->read_bytes - (int64_t)(s->in1 - s->in0);
}

int64_t line_source_file_bytes(const line_source *s)
{
    return s->file_bytes;
}

bool line_source_compressed(const line_source *s)
{
    return s->compressed;
}

/* At least `want` bytes of the file in input, or all that are left. */
static status input_fill(line_source *s, size_t want)
{
    if (s->in1 - s->in0 >= want || s->input_ended)
        return STATUS_OK;
    memmove(s->input, s->input + s->in0, s->in1 - s->in0);
    s->in1 -= s->in0;
    s->in0 = 0;
    while (s->in1 < want && !s->input_ended) {
        ssize_t n = read(s->fd, s->input + s->in1, INPUT_BYTES - s->in1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(STATUS_DATA, "%s: cannot be read: %s; give a VCF, BCF or FASTA file",
                        s->path, strerror(errno));
        s->input_ended = n == 0;
        s->in1 += (size_t)n;
        s->read_bytes += n;
    }
    return STATUS_OK;
}

static bool is_gzip(const unsigned char *p, size_t n)
{
    return n >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

/* Header of a bgzip block: a gzip member with the extra field BC of two bytes (SAM specification,
 * 4.1). */
static bool is_bgzf(const unsigned char *p, size_t n)
{
    return n >= BGZF_HEADER && is_gzip(p, n) && p[2] == 8 && (p[3] & 4) && p[12] == 'B' &&
           p[13] == 'C' && p[14] == 2 && p[15] == 0;
}

status line_source_open(const char *path, line_source **out)
{
    *out = NULL;
    line_source *s = calloc(1, sizeof *s);
    if (!s)
        return fail(STATUS_MEMORY, "%s: no memory to read it; free some memory", path);
    s->fd = -1;
    strncpy(s->path, path, sizeof s->path - 1);
    s->input = malloc(INPUT_BYTES);
    s->room = TEXT_BYTES;
    s->text = malloc(s->room + 1);
    status st = STATUS_OK;
    struct stat about;
    if (!s->input || !s->text) {
        st = fail(STATUS_MEMORY, "%s: no memory to read it; free some memory", path);
        goto failed;
    }
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        st = fail(STATUS_DATA, "%s: cannot be opened: %s; check the name and its permissions", path,
                  strerror(errno));
        goto failed;
    }
    if (fstat(s->fd, &about) == 0 && S_ISDIR(about.st_mode)) {
        st = fail(STATUS_DATA, "%s: is a folder: %s; give the files in it", path, strerror(EISDIR));
        goto failed;
    }
    s->file_bytes = S_ISREG(about.st_mode) ? (int64_t)about.st_size : 0;
    TRY_GOTO(failed, input_fill(s, BGZF_HEADER));
    s->compressed = is_gzip(s->input, s->in1);
    s->bgzf = is_bgzf(s->input, s->in1);
    s->state = s->compressed ? MEMBER_START : PLAIN;
    if (s->compressed && inflateInit2(&s->z, 15 + 16) != Z_OK) {
        s->compressed = false;
        st = fail(STATUS_MEMORY, "%s: no memory to inflate it; free some memory", path);
        goto failed;
    }
    *out = s;
    return STATUS_OK;
failed:
    line_source_close(&s);
    return st;
}

void line_source_close(line_source **s)
{
    if (!*s)
        return;
    if ((*s)->compressed)
        inflateEnd(&(*s)->z);
    if ((*s)->fd >= 0)
        close((*s)->fd);
    free((*s)->input);
    free((*s)->text);
    free(*s);
    *s = NULL;
}

/* Between two members: the next one begins, or the file has ended as it should. */
static status member_start(line_source *s)
{
    TRY(input_fill(s, BGZF_HEADER));
    size_t n = s->in1 - s->in0;
    if (n == 0) {
        if (s->bgzf && !s->last_empty)
            return fail(STATUS_DATA,
                        "%s: the end block of bgzip is missing, the file may be cut; get it again",
                        s->path);
        s->state = ENDED;
        return STATUS_OK;
    }
    const unsigned char *p = s->input + s->in0;
    if (!is_gzip(p, n))
        return fail(STATUS_DATA,
                    "%s: bytes behind the last compressed block belong to nothing, the file is "
                    "damaged; get it again",
                    s->path);
    s->member_bgzf = is_bgzf(p, n);
    s->member_bytes = s->member_bgzf ? ((size_t)p[16] | (size_t)p[17] << 8) + 1 : 0;
    s->z.next_in = NULL;
    s->z.avail_in = 0;
    if (inflateReset(&s->z) != Z_OK)
        return fail(STATUS_INTERNAL, "%s: zlib cannot start a block; please report it", s->path);
    s->state = MEMBER_INSIDE;
    return STATUS_OK;
}

/* Inflates into text[end, room): some bytes, or the end of the member. */
static status member_inflate(line_source *s)
{
    TRY(input_fill(s, 1));
    if (s->in0 == s->in1)
        return fail(STATUS_DATA,
                    "%s: ends inside a compressed block, the file was cut; get it again", s->path);
    s->z.next_in = s->input + s->in0;
    s->z.avail_in = (uInt)(s->in1 - s->in0);
    s->z.next_out = (unsigned char *)s->text + s->end;
    s->z.avail_out = (uInt)(s->room - s->end < (1u << 30) ? s->room - s->end : 1u << 30);
    int r = inflate(&s->z, Z_NO_FLUSH);
    s->in0 = s->in1 - s->z.avail_in;
    s->end = (size_t)((char *)s->z.next_out - s->text);
    if (r == Z_STREAM_END) {
        if (s->member_bgzf && s->z.total_in != s->member_bytes)
            return fail(STATUS_DATA,
                        "%s: a compressed block has %lu bytes and states %zu near byte %lld, the "
                        "file is damaged; get it again",
                        s->path, s->z.total_in, s->member_bytes,
                        (long long)line_source_read_bytes(s));
        s->last_empty = s->member_bgzf && s->z.total_out == 0;
        s->state = MEMBER_START;
        return STATUS_OK;
    }
    if (r != Z_OK && r != Z_BUF_ERROR)
        return fail(STATUS_DATA,
                    "%s: a compressed block is damaged (%s) near byte %lld; get the file again",
                    s->path, s->z.msg ? s->z.msg : "zlib", (long long)line_source_read_bytes(s));
    return STATUS_OK;
}

/* More text behind [at, end), which may move to the front; nothing more: state ENDED. */
static status text_fill(line_source *s)
{
    if (s->at > 0) {
        memmove(s->text, s->text + s->at, s->end - s->at);
        s->end -= s->at;
        s->at = 0;
    }
    if (s->end > s->room / 2) {
        if (s->room >= LINE_MOST)
            return fail(STATUS_DATA, "%s:%lld: a line of more than %zu bytes; this is no VCF",
                        s->path, (long long)s->line + 1, LINE_MOST);
        char *more = realloc(s->text, 2 * s->room + 1);
        if (!more)
            return fail(STATUS_MEMORY, "%s:%lld: no memory for a line of %zu bytes; free some",
                        s->path, (long long)s->line + 1, s->room);
        s->text = more;
        s->room *= 2;
    }
    size_t before = s->end;
    while (s->end == before && s->state != ENDED) {
        if (s->state == MEMBER_START) {
            TRY(member_start(s));
        } else if (s->state == MEMBER_INSIDE) {
            TRY(member_inflate(s));
        } else {
            TRY(input_fill(s, 1));
            size_t n = s->in1 - s->in0 < s->room - s->end ? s->in1 - s->in0 : s->room - s->end;
            memcpy(s->text + s->end, s->input + s->in0, n);
            s->in0 += n;
            s->end += n;
            if (n == 0)
                s->state = ENDED;
        }
    }
    return STATUS_OK;
}

void line_source_take_cut_line(line_source *s)
{
    s->cut_line = true;
}

status line_source_peek(line_source *s, size_t want, const char **bytes, size_t *n)
{
    while (s->end - s->at < want && s->state != ENDED)
        TRY(text_fill(s));
    *bytes = s->text + s->at;
    *n = s->end - s->at;
    return STATUS_OK;
}

status line_source_drain(line_source *s)
{
    while (s->state != ENDED) {
        s->at = s->end;
        TRY(text_fill(s));
    }
    return STATUS_OK;
}

status line_source_next(line_source *s, char **line, size_t *length)
{
    *line = NULL;
    *length = 0;
    size_t searched = 0;
    char *newline;
    if (!s->started) { /* the mark that some editors put before UTF-8 */
        const char *first;
        size_t n;
        TRY(line_source_peek(s, 3, &first, &n));
        if (n >= 3 && memcmp(first, "\xef\xbb\xbf", 3) == 0)
            s->at += 3;
        s->started = true;
    }
    while (!(newline = memchr(s->text + s->at + searched, '\n', s->end - s->at - searched))) {
        searched = s->end - s->at;
        if (s->state == ENDED && searched == 0)
            return STATUS_OK;
        if (s->state == ENDED && s->cut_line) { /* text has room for one byte more */
            newline = s->text + s->end++;
            *newline = '\n';
            break;
        }
        if (s->state == ENDED)
            return fail(STATUS_DATA,
                        "%s:%lld: the last line ends before its newline, the file may be cut; get "
                        "it again, or end the line if nothing is missing",
                        s->path, (long long)s->line + 1);
        TRY(text_fill(s));
    }
    char *start = s->text + s->at;
    size_t n = (size_t)(newline - start);
    s->at += n + 1;
    s->line++;
    if (memchr(start, '\0', n))
        return fail(STATUS_DATA,
                    "%s:%lld: a zero byte in a line of text, the file is damaged; get "
                    "it again",
                    s->path, (long long)s->line);
    if (n > 0 && start[n - 1] == '\r')
        n--;
    start[n] = '\0';
    *line = start;
    *length = n;
    return STATUS_OK;
}
