// SPDX-License-Identifier: MIT
/* The lines of a crash report. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "report.h"

void report_suite(const struct suite_result *r, const char *file)
{
	const char *verdict = r->violations ? "violated" : r->count < r->goal ? "short"
									      : "held";
	char line[512];
	int fd, n;

	printf("%-32s %10llu of %10llu  %llu violations  %7.1f s  seed %llu  %s\n", r->suite,
	       (unsigned long long)r->count, (unsigned long long)r->goal, (unsigned long long)r->violations,
	       r->seconds, (unsigned long long)r->seed, verdict);
	fflush(stdout);
	if (!file)
		return;
	n = snprintf(line, sizeof(line),
		     "{\"suite\":\"%s\",\"goal\":%llu,\"count\":%llu,\"violations\":%llu,"
		     "\"seconds\":%.3f,\"seed\":%llu,\"verdict\":\"%s\"}\n",
		     r->suite, (unsigned long long)r->goal, (unsigned long long)r->count,
		     (unsigned long long)r->violations, r->seconds, (unsigned long long)r->seed, verdict);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)n) != n) /* one write: lines of two programs do not mix */
		perror(file);
	if (fd >= 0)
		close(fd);
}
