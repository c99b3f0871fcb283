/* SPDX-License-Identifier: MIT */
/*
 * Prints what logmill makes of each line, for comparison with an oracle: SOURCE, TAB, TEMPLATE.
 * With -m the whole line is the message: TEMPLATE alone.
 */
#include "lines.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	int masking_only = argc > 1 && strcmp(argv[1], "-m") == 0;
	struct mask_buffer buffer = { 0 };
	struct logs logs = { 0 };

	for (int i = 1 + masking_only; i < argc; i++) {
		int err = logs_add(&logs, argv[i]);

		if (err) {
			fprintf(stderr, "lines_cat: %s: %s\n", argv[i], strerror(-err));
			return 3;
		}
	}
	for (size_t i = 0; i < logs.nlines; i++) {
		struct text message = logs_text(&logs, &logs.lines[i]), template;
		char source[SOURCE_MAX + 1];

		if (!masking_only) {
			line_parse(logs.files[logs.lines[i].file].name, message, source, &message);
			printf("%s\t", source);
		}
		if (mask_message(message, &buffer, &template))
			return 3;
		fwrite(template.at, 1, template.len, stdout);
		putchar('\n');
	}
	mask_free(&buffer);
	logs_free(&logs);
	return 0;
}
