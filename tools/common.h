/* SPDX-License-Identifier: MIT */
/*
 * What every command-line tool here has in common: exit statuses, messages, options, JSON.
 *
 * Data goes to standard output, talk to standard error.
 */
#ifndef FOUNDATION_TOOLS_COMMON_H
#define FOUNDATION_TOOLS_COMMON_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* Exit status, the same for every tool; listed in foundation(1). */
enum tool_status {
	TOOL_FINE = 0,
	TOOL_FOUND = 1,       /* found something: a difference, a warning that was asked for */
	TOOL_USAGE = 2,       /* options or arguments */
	TOOL_CANNOT = 3,      /* cannot open, attach, create or write */
	TOOL_CORRUPT = 4,     /* damaged bytes */
	TOOL_TIMEOUT = 5,
	TOOL_PERMISSION = 6,
	TOOL_NOT_DURABLE = 7, /* done, but not known to be on the medium */
};

/* The exit status for a library's result (negative or positive code; 0: fine). */
int tool_exit_status(int err);

/* Prints "prog: what: sentence (detail)" and returns the exit status. The detail is that of the last
 * failed library call of this thread. */
int tool_fail(const char *prog, const char *what, int err);

/* The same for a failure of the system, where the library has no detail to add. */
int tool_fail_errno(const char *prog, const char *what, int saved_errno);

/* Prints "prog: " and the message; returns TOOL_USAGE. */
__attribute__((format(printf, 2, 3))) int tool_usage(const char *prog, const char *fmt, ...);

/* argp_parse() with this project's exit statuses: --help and --version leave with 0, a wrong option with
 * 2. @prog: as it shall appear in messages ("foundation create"). Returns 0 or an exit status. */
int tool_parse(const struct argp *argp, const char *prog, int argc, char **argv, void *input);

/* The segment a tool works on: what --segment said, or FOUNDATION_SEGMENT; NULL: neither. */
const char *tool_segment(const char *option);

/* A decimal number with an optional suffix K, M, G (powers of 1024). False: not one, or above @max. */
bool tool_number(const char *text, uint64_t max, uint64_t *ret_value);

struct fnd_segment;

/* Detaches, after taking to the journal what the events tell of the workers: nobody else writes it there. When
 * it cannot be written a sentence says so; the tool's status is not changed by it. */
void tool_leave(const char *prog, const char *segment, struct fnd_segment *seg);

/* Prints @root with a line feed and drops the reference. Returns an exit status. */
int tool_print_json(const char *prog, json_t *root);

/* Flushes standard output: @status, or TOOL_CANNOT with a message when what was printed is lost. */
int tool_finish(const char *prog, int status);

/* A string that may hold any bytes, as JSON: invalid UTF-8 becomes U+FFFD. */
json_t *tool_json_text(const void *text, size_t bytes);

/* A msgpack value as JSON (binary as {"$bin": hex}), or NULL: not one msgpack value. */
json_t *tool_json_msgpack(const void *data, size_t bytes);

/* Binary bytes in hexadecimal. @buf: 2 * bytes + 1. */
void tool_hex(const void *data, size_t bytes, char *buf);

/* "1.5 MiB"; "2024-05-01T12:00:00.123Z". Return @buf. */
char *tool_bytes(uint64_t bytes, char buf[24]);
char *tool_time(uint64_t wall_ns, char buf[32]);

/* A text with every control character replaced by '?': nothing from a segment steers a terminal. */
char *tool_printable(const char *text, char *buf, size_t buf_bytes);

#endif
