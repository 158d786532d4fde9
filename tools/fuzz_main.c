/* fuzz_main: runs a fuzz target over files, where libFuzzer is not at hand.
 *
 * usage: NAME_fuzz FILE|FOLDER...  Every regular file is given to the target once, and so is each
 * of its prefixes up to PREFIX_BYTES_MAX: a decoder meets most of its trouble at a cut. Options of
 * libFuzzer (they begin with a dash) are accepted and mean nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 1 << 20, PREFIX_BYTES_MAX = 512, PATH_BYTES_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The copy has exactly `count` bytes, so that AddressSanitizer sees one read too far. */
static void run_bytes(const uint8_t *bytes, size_t count)
{
    uint8_t *copy = malloc(count > 0 ? count : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, bytes, count);
    (void)LLVMFuzzerTestOneInput(copy, count);
    free(copy);
}

static int run_file(const char *path)
{
    static uint8_t block[FILE_BYTES_MAX];
    FILE *file = fopen(path, "rb");
    size_t count;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    count = fread(block, 1, sizeof(block), file);
    (void)fclose(file); /* it was only read */
    for (size_t cut = 0; cut < count && cut <= PREFIX_BYTES_MAX; cut++)
        run_bytes(block, cut);
    run_bytes(block, count);
    return 0;
}

static int run_folder(const char *path, size_t *runs)
{
    DIR *folder = opendir(path);
    int failures = 0;

    if (folder == NULL) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char name[PATH_BYTES_MAX];
        struct stat info;

        if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int)sizeof(name))
            continue;
        if (stat(name, &info) != 0 || !S_ISREG(info.st_mode))
            continue;
        failures += run_file(name);
        (*runs)++;
    }
    (void)closedir(folder);
    return failures;
}

int main(int argc, char **argv)
{
    int failures = 0;
    size_t runs = 0;

    run_bytes((const uint8_t *)"", 0);
    for (int index = 1; index < argc; index++) {
        struct stat info;

        if (argv[index][0] == '-')
            continue;
        if (stat(argv[index], &info) == 0 && S_ISDIR(info.st_mode)) {
            failures += run_folder(argv[index], &runs);
        } else {
            failures += run_file(argv[index]);
            runs++;
        }
    }
    printf("%zu files\n", runs);
    return failures == 0 ? 0 : 1;
}
