/* Any JSON for any command: an answer or a refusal, nothing kept. */
#include "command/command.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count)
{
    static struct config *config;
    static uint8_t block[1u << 20];
    struct arena a;
    struct command_args args;
    struct command_refusal no;
    if (config == NULL) {
        struct buf message;
        char *environment[] = {NULL};
        buf_init(&message, 4096);
        CHECK(config_load(NULL, environment, NULL, 0, &config, &message) == ERR_OK);
    }
    if (count == 0)
        return 0;
    arena_init(&a, block, sizeof(block));
    uint64_t before = mem_used_bytes();
    if (command_parse(&a, config, (enum command)(at[0] % COMMANDS_COUNT),
                      bytes_make(at + 1, count - 1), &args, &no) == ERR_OK)
        command_args_free(&args);
    else
        CHECK(no.message[0] != '\0');
    CHECK(mem_used_bytes() == before);
    return 0;
}
