/* SPDX-License-Identifier: MIT */
/*
 * Log lines: reading files, splitting them, and what a line says.
 *
 * Nothing here knows of shared memory. A log is text of unknown origin: any byte may occur anywhere, NUL
 * included, so that every text is an address and a length.
 */
#ifndef LOGMILL_LINES_H
#define LOGMILL_LINES_H

#include <stddef.h>
#include <stdint.h>

#define SOURCE_MAX 255 /* bytes of a source's name, as the registry takes them */

struct text {
	const char *at;
	size_t len;
};

struct log_file {
	char *path;       /* absolute where it can be made so */
	const char *name; /* base name of what the caller said */
	char *bytes;
	size_t len;
};

struct log_line {
	uint64_t off;
	uint32_t len;
	uint32_t file; /* index into logs.files */
};

struct logs {
	struct log_file *files;
	size_t nfiles;
	struct log_line *lines;
	size_t nlines;
	size_t room; /* of lines */
};

/* Read a file and append its lines. Returns 0 or a negative errno, with @logs as it was. */
int logs_add(struct logs *logs, const char *path);
void logs_free(struct logs *logs);

static inline struct text logs_text(const struct logs *logs, const struct log_line *line)
{
	return (struct text){ logs->files[line->file].bytes + line->off, line->len };
}

/*
 * The next line of @rest, without its end (LF, CRLF or the end of the text); @rest moves behind it.
 * Returns 0 when nothing is left.
 */
int line_next(struct text *rest, struct text *ret_line);

/* A line of nothing but white space. */
int line_is_blank(struct text line);

/*
 * Who said a line, and what. @source receives a NUL-terminated name that is never empty.
 *
 *   Mmm dd hh:mm:ss HOST PROGRAM[PID]: MESSAGE               HOST/PROGRAM[PID]; [PID] is optional
 *   date time - LEVEL [THREAD:COMPONENT@LINE] - MESSAGE      FILE/COMPONENT
 *   [date time] FIRST-WORD MESSAGE                           FILE/FIRST-WORD
 *
 * A source that is too long, or holds a NUL byte, keeps its beginning and gets a digest of the whole.
 */
void line_parse(const char *file, struct text line, char source[SOURCE_MAX + 1],
		struct text *ret_message);

/* A line's template lives in one of these until the next call; start from all zeros. */
struct mask_buffer {
	char *bytes;
	size_t room;
};

/*
 * The template of a message: what `sed -E` makes of it, byte by byte in the C locale, with
 *
 *   s/[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?/<ip>/g
 *   s/\b(0x[0-9a-fA-F]+|[0-9a-fA-F]{8,})\b/<hex>/g
 *   s/[0-9]+/<n>/g
 *
 * Returns 0 or -ENOMEM.
 */
int mask_message(struct text message, struct mask_buffer *buffer, struct text *ret_template);
void mask_free(struct mask_buffer *buffer);

#endif
