/* Names of human chromosomes and lengths of their assemblies (NCBI assembly reports). */
#include "io/assembly.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    const char *others[6];
    int64_t length[CHROMOSOMES]; /* by identity */
} table[] = {
    {"GRCh36",
     {"NCBI36", "hg18", "b36", NULL},
     {0,         247249719, 242951149, 199501827, 191273063, 180857866, 170899992,
      158821424, 146274826, 140273252, 135374737, 134452384, 132349534, 114142980,
      106368585, 100338915, 88827254,  78774742,  76117153,  63811651,  62435964,
      46944323,  49691432,  154913754, 57772954,  16571}},
    {"GRCh37",
     {"hg19", "b37", "hs37d5", "hs37", "g1k_v37", NULL},
     {0,         249250621, 243199373, 198022430, 191154276, 180915260, 171115067,
      159138663, 146364022, 141213431, 135534747, 135006516, 133851895, 115169878,
      107349540, 102531392, 90354753,  81195210,  78077248,  59128983,  63025520,
      48129895,  51304566,  155270560, 59373566,  16569}},
    {"GRCh38",
     {"hg38", "hs38", "b38", "hs38DH", NULL},
     {0,         248956422, 242193529, 198295559, 190214555, 181538259, 170805979,
      159345973, 145138636, 138394717, 133797422, 135086622, 133275309, 114364328,
      107043718, 101991189, 90338345,  83257441,  80373285,  58617616,  64444167,
      46709983,  50818468,  156040895, 57227415,  16569}},
    {"T2T-CHM13",
     {"T2T-CHM13v2.0", "CHM13", "hs1", "chm13v2.0", NULL},
     {0,         248387328, 242696752, 201105948, 193574945, 182045439, 172126628,
      160567428, 146259331, 150617247, 134758134, 135127769, 133324548, 113566686,
      101161492, 99753195,  96330374,  84276897,  80542538,  61707364,  66210255,
      45090682,  51324926,  154259566, 62460029,  16569}},
};

#define ASSEMBLIES ((int)(sizeof table / sizeof *table))
#define HG19_MT 16571 /* chrM of UCSC's hg19 is older than that of the other copies of GRCh37 */

int assemblies(void)
{
    return ASSEMBLIES;
}

const char *assembly_name(int assembly)
{
    return table[assembly].name;
}

int assembly_find(const char *name)
{
    for (int a = 0; a < ASSEMBLIES; a++) {
        if (strcasecmp(table[a].name, name) == 0)
            return a;
        for (int i = 0; table[a].others[i]; i++)
            if (strcasecmp(table[a].others[i], name) == 0)
                return a;
    }
    return -1;
}

int64_t assembly_length(int assembly, int identity)
{
    return table[assembly].length[identity];
}

unsigned assembly_fits(int identity, int64_t length)
{
    unsigned fits = 0;
    for (int a = 0; a < ASSEMBLIES; a++)
        if (table[a].length[identity] == length)
            fits |= 1u << a;
    if (identity == CHROMOSOME_MT && length == HG19_MT)
        fits |= 1u << assembly_find("GRCh37");
    return fits;
}

/* A whole decimal number without sign, -1 otherwise; at most `most` digits. */
static int number_of(const char *text, size_t most)
{
    size_t n = strspn(text, "0123456789");
    return n == 0 || n > most || text[n] ? -1 : atoi(text);
}

static int plain_identity(const char *text)
{
    if (strcasecmp(text, "X") == 0)
        return CHROMOSOME_X;
    if (strcasecmp(text, "Y") == 0)
        return CHROMOSOME_Y;
    if (strcasecmp(text, "M") == 0 || strcasecmp(text, "MT") == 0)
        return CHROMOSOME_MT;
    int n = number_of(text, 2);
    if (n >= 1 && n <= CHROMOSOME_Y)
        return n;
    return n == 26 ? CHROMOSOME_MT : 0;
}

/* PREFIXnnnnnn.v: the number, -1 where the name has another form. */
static int accession_number(const char *name, const char *prefix, size_t digits)
{
    size_t n = strlen(prefix);
    if (strncasecmp(name, prefix, n) != 0 || strspn(name + n, "0123456789") != digits)
        return -1;
    const char *version = name + n + digits;
    if (*version && (*version != '.' || number_of(version + 1, 3) < 0))
        return -1;
    return (int)strtol(name + n, NULL, 10);
}

static int accession_identity(const char *name)
{
    int n = accession_number(name, "NC_", 6);
    if (n >= 1 && n <= CHROMOSOME_Y)
        return n;
    if (n >= 60925 && n < 60925 + CHROMOSOME_Y) /* T2T-CHM13v2.0 */
        return n - 60925 + 1;
    if (n == 12920 || n == 1807)
        return CHROMOSOME_MT;
    n = accession_number(name, "CM", 6); /* GenBank, GRCh37 and GRCh38 */
    if (n >= 663 && n <= 686)
        return n - 663 + 1;
    n = accession_number(name, "J", 5);
    return n == 1415 ? CHROMOSOME_MT : 0;
}

bool chromosome_plain(const char *name, bool *prefixed)
{
    *prefixed = strncasecmp(name, "chr", 3) == 0;
    return plain_identity(*prefixed ? name + 3 : name) != 0;
}

int chromosome_identity(const char *name)
{
    bool prefixed;
    if (chromosome_plain(name, &prefixed))
        return plain_identity(prefixed ? name + 3 : name);
    return accession_identity(name);
}

const char *chromosome_prefixed_name(int identity)
{
    static const char *const names[CHROMOSOMES] = {
        "",      "chr1",  "chr2",  "chr3",  "chr4",  "chr5",  "chr6",  "chr7",  "chr8",
        "chr9",  "chr10", "chr11", "chr12", "chr13", "chr14", "chr15", "chr16", "chr17",
        "chr18", "chr19", "chr20", "chr21", "chr22", "chrX",  "chrY",  "chrM"};
    return names[identity];
}
