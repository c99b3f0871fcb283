/* SPDX-License-Identifier: MIT */
/*
 * The maps parser of the death evidence: exact about the file, and no evidence from an odd line.
 * Includes the source, for the parser is no interface.
 */
#include "../../shm/evidence.c"

#define DEV makedev(0, 0x1b)
#define INO 4711u
#define OURS "7f0000000000-7f0000001000 rw-s 00000000 00:1b 4711   /dev/shm/foundation.0.x\n"
#define TEXT "00400000-00401000 r-xp 00000000 fe:01 4711 /bin/program\n"
#define ANON "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 \n"
#define LAST "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"

static int failures;

static enum maps scan_text(const char *text, size_t len)
{
	int file = (int)syscall(SYS_memfd_create, "maps", 0);
	enum maps found;

	if (file < 0 || write(file, text, len) != (ssize_t)len || lseek(file, 0, SEEK_SET) != 0)
		return MAPS_NO_EVIDENCE;
	found = scan_maps(file, DEV, INO);
	close(file);
	return found;
}

static void check(const char *what, const char *text, enum maps wanted)
{
	enum maps found = scan_text(text, strlen(text));

	if (found != wanted) {
		fprintf(stderr, "%s: found %d, wanted %d\n", what, (int)found, (int)wanted);
		failures++;
	}
}

static void whole_lines(void)
{
	check("empty", "", MAPS_EMPTY);
	check("no segment", TEXT ANON LAST, MAPS_WITHOUT);
	check("segment in the middle", TEXT OURS ANON LAST, MAPS_WITH);
	check("segment alone", OURS, MAPS_WITH);
	check("other device", "1000-2000 rw-s 00000000 00:1c 4711 x\n", MAPS_WITHOUT);
	check("other major", "1000-2000 rw-s 00000000 01:1b 4711 x\n", MAPS_WITHOUT);
	check("longer inode", "1000-2000 rw-s 00000000 00:1b 47110 x\n", MAPS_WITHOUT);
	check("inode is decimal", "1000-2000 rw-s 00000000 00:1b 1267 x\n", MAPS_WITHOUT);
	check("device is hexadecimal", "1000-2000 rw-s 00000000 00:27 4711 x\n", MAPS_WITHOUT);
	check("name that looks like it", "1000-2000 r--p 00000000 00:00 0 " OURS, MAPS_WITHOUT);
}

static void odd_lines(void)
{
	check("cut in the line", TEXT "7f0000000000-7f00000", MAPS_NO_EVIDENCE);
	check("cut before the newline", "1000-2000 r--p 00000000 00:00 0 ", MAPS_NO_EVIDENCE);
	check("empty line", TEXT "\n" ANON, MAPS_NO_EVIDENCE);
	check("no inode", "1000-2000 r--p 00000000 00:00\n", MAPS_NO_EVIDENCE);
	check("no numbers", "hello\n", MAPS_NO_EVIDENCE);
	check("sign", "1000-2000 r--p 00000000 00:00 +0 \n", MAPS_NO_EVIDENCE);
	check("prefix", "0x1000-2000 r--p 00000000 00:00 0 \n", MAPS_NO_EVIDENCE);
	check("blank", " 1000-2000 r--p 00000000 00:00 0 \n", MAPS_NO_EVIDENCE);
	check("too large", "1000-2000 r--p 00000000 00:00 99999999999999999999 \n",
	      MAPS_NO_EVIDENCE);
	check("permissions", "1000-2000 r--p0 00000000 00:00 0 \n", MAPS_NO_EVIDENCE);
	check("backwards", "2000-1000 r--p 00000000 00:00 0 \n", MAPS_NO_EVIDENCE);
	check("out of order", ANON TEXT, MAPS_NO_EVIDENCE);
	check("odd line behind", TEXT "what\n", MAPS_NO_EVIDENCE);
}

/* Longer than the buffer, in number and in width, with the segment at each place in a block. */
static void long_files(void)
{
	static char text[400000];
	size_t len;

	for (int shift = 0; shift < 300; shift++) {
		len = (size_t)sprintf(text, "1000-2000 r--p 00000000 fe:01 9 /%0*d\n",
				      shift + 3900, 7);
		check("wide line", text, MAPS_WITHOUT);
		sprintf(text + len, "%s", OURS);
		check("behind a wide line", text, MAPS_WITH);
	}
	len = 0;
	for (unsigned long a = 0x1000; len < 300000; a += 0x1000)
		len += (size_t)sprintf(text + len, "%lx-%lx r--p 00000000 fe:01 9 /lib/x\n",
				       a, a + 0x1000);
	check("many lines", text, MAPS_WITHOUT);
	sprintf(text + len, "%s", OURS);
	check("behind many lines", text, MAPS_WITH);
	text[len - 1] = '\0';
	check("many lines, the last one cut", text, MAPS_NO_EVIDENCE);
}

int main(void)
{
	int dir = open("/proc/self", O_PATH | O_DIRECTORY);

	whole_lines();
	odd_lines();
	long_files();
	if (scan_maps(-1, DEV, INO) != MAPS_NO_EVIDENCE)
		failures++;
	/* What the running kernel prints is read without doubt. */
	if (dir < 0 || scan_threads(dir, DEV, INO) != MAPS_WITHOUT)
		failures++;
	printf("%d failures\n", failures);
	return failures != 0;
}
