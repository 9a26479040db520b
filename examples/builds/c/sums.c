/* Prints the CRC-32 of files, as zlib has it. */
#include <stdio.h>
#include <zlib.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        unsigned char buffer[4096];
        uLong sum = crc32(0, NULL, 0);
        size_t count;
        FILE *file = fopen(argv[i], "rb");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        while ((count = fread(buffer, 1, sizeof buffer, file)) > 0)
            sum = crc32(sum, buffer, (uInt)count);
        fclose(file);
        printf("%08lx %s\n", sum, argv[i]);
    }
    return 0;
}
