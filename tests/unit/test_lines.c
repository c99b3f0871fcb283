/* SPDX-License-Identifier: MIT */
/* logmill's log lines: where they end, who says them, and what their templates are. */
#include "lines.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct text text(const char *s)
{
	return (struct text){ s, strlen(s) };
}

static void expect_parse(const char *line, const char *source, const char *message)
{
	char got[SOURCE_MAX + 1];
	struct text rest;

	line_parse("app.log", text(line), got, &rest);
	cr_expect_str_eq(got, source, "source of \"%s\": %s", line, got);
	cr_expect(rest.len == strlen(message) && memcmp(rest.at, message, rest.len) == 0,
		  "message of \"%s\": %.*s", line, (int)rest.len, rest.at);
}

static void expect_mask(const char *message, const char *want)
{
	struct mask_buffer buffer = { 0 };
	struct text got;

	cr_assert_eq(mask_message(text(message), &buffer, &got), 0);
	cr_expect(got.len == strlen(want) && memcmp(got.at, want, got.len) == 0,
		  "template of \"%s\": %.*s", message, (int)got.len, got.at);
	mask_free(&buffer);
}

Test(lines, end_at_lf_crlf_and_the_end)
{
	struct text rest = text("one\ntwo\r\n\n\r\n mid\rdle\r\r\nlast\r"), line;
	const char *want[] = { "one", "two", "", "", " mid\rdle\r", "last\r" };
	size_t n = 0;

	while (line_next(&rest, &line)) {
		cr_assert_lt(n, 6);
		cr_expect(line.len == strlen(want[n]) && !memcmp(line.at, want[n], line.len));
		n++;
	}
	cr_expect_eq(n, 6);
}

Test(lines, blank_is_white_space_alone)
{
	cr_expect(line_is_blank(text("")));
	cr_expect(line_is_blank(text(" \t\r")));
	cr_expect_not(line_is_blank(text(" .")));
	cr_expect_not(line_is_blank((struct text){ "\0", 1 }));
}

static void write_file(const char *path, const char *content)
{
	FILE *f = fopen(path, "w");

	cr_assert(f);
	fputs(content, f);
	cr_assert_eq(fclose(f), 0);
}

Test(lines, files_are_indexed)
{
	char dir[] = "/tmp/test_lines.XXXXXX", a[64], b[64];
	struct logs logs = { 0 };

	cr_assert(mkdtemp(dir));
	snprintf(a, sizeof(a), "%s/a.log", dir);
	snprintf(b, sizeof(b), "%s/empty", dir);
	write_file(a, "first\r\n\n  \nsecond");
	write_file(b, "");

	cr_expect_eq(logs_add(&logs, b), 0);
	cr_expect_eq(logs_add(&logs, a), 0);
	cr_expect_eq(logs_add(&logs, dir), -EISDIR);
	cr_expect_eq(logs_add(&logs, "/nonexistent"), -ENOENT);
	cr_expect_eq(logs.nfiles, 2);
	cr_assert_eq(logs.nlines, 2);
	cr_expect_eq(logs.lines[1].file, 1);
	cr_expect_str_eq(logs.files[1].name, "a.log");
	cr_expect_eq(logs_text(&logs, &logs.lines[1]).len, strlen("second"));
	logs_free(&logs);
	unlink(a);
	unlink(b);
	rmdir(dir);
}

Test(forms, syslog)
{
	expect_parse("Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user a", "LabSZ/sshd[24200]",
		     "Invalid user a");
	expect_parse("Jan  1 00:00:00 h kernel: [    0.0] x", "h/kernel", "[    0.0] x");
	expect_parse("Jan  1 00:00:00 h su:  two blanks", "h/su", " two blanks");
	expect_parse("Jan  1 00:00:00 h cron[1]:", "h/cron[1]", "");
	expect_parse("Jan  1 00:00:00 h cron[1]: ", "h/cron[1]", "");
}

Test(forms, nearly_syslog)
{
	expect_parse("Jan  1 00:00:00 h last message repeated", "app.log/h", "last message repeated");
	expect_parse("Jan  1 00:00:00 h su:tight", "app.log/h", "su:tight");
	expect_parse("Jax  1 00:00:00 h su: x", "app.log/Jax", "1 00:00:00 h su: x");
	expect_parse("Jan  1 00:00:00", "app.log/", "");
}

Test(forms, zookeeper)
{
	const char *quorum = "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:"
			     "FastLeaderElection@774] - Notification time out: 3200";

	expect_parse(quorum, "app.log/FastLeaderElection", "Notification time out: 3200");
	expect_parse("2015-07-29 17:41:44,747 - WARN [a@b:C$D@1] - x@2] - y", "app.log/C$D",
		     "x@2] - y");
	expect_parse("2015-07-29 17:41:44,747 - INFO [main:A@1] - ", "app.log/A", "");
	/* No colon, no component: not this form. */
	expect_parse("2015-07-29 17:41:44,747 - INFO [main@1] - x", "app.log/-", "INFO [main@1] - x");
}

Test(forms, any_other)
{
	expect_parse("plain words here", "app.log/plain", "words here");
	expect_parse("word", "app.log/word", "");
	expect_parse("\tat java.Thread", "app.log/at", "java.Thread");
	expect_parse("2024-05-01 10:00:00 a b", "app.log/a", "b");
	expect_parse("2024-05-01T10:00:00.123456+02:00 a b", "app.log/a", "b");
	expect_parse("2024-05-01T10:00:00Z a b", "app.log/a", "b");
	expect_parse("2024/05/01 10:00:00 +0200 a b", "app.log/a", "b");
	expect_parse("17/06/09 20:10:40 a b", "app.log/a", "b");
	expect_parse("03-17 16:13:38.811 a b", "app.log/a", "b");
	expect_parse("2016-09-28 04:30:30, a b", "app.log/a", "b");
	expect_parse("[Sun Dec 04 04:47:44 2005] [notice] b", "app.log/[notice]", "b");
	expect_parse("10/Oct/2000:13:55:36 -0700 a b", "app.log/a", "b");
	expect_parse("Thu Jun  9 06:07:04 UTC 2005 a b", "app.log/a", "b");
	/* Half a date, or numbers that only begin like one, belong to the line. */
	expect_parse("2024-05-01 a b", "app.log/2024-05-01", "a b");
	expect_parse("2024-05-01 10:00:00x b", "app.log/2024-05-01", "10:00:00x b");
	expect_parse("[2024-05-01 10:00:00 b", "app.log/[2024-05-01", "10:00:00 b");
}

Test(forms, long_sources_stay_apart)
{
	char a[2000], got_a[SOURCE_MAX + 1], got_b[SOURCE_MAX + 1];
	struct text rest;

	memset(a, 'x', sizeof(a));
	a[1900] = ' ';
	line_parse("f", (struct text){ a, sizeof(a) }, got_a, &rest);
	a[1800] = 'y';
	line_parse("f", (struct text){ a, sizeof(a) }, got_b, &rest);
	cr_expect_eq(strlen(got_a), SOURCE_MAX);
	cr_expect_str_neq(got_a, got_b);
	cr_expect_eq(rest.len, 99);

	/* A NUL ends no name: what comes behind it counts. */
	line_parse("f", (struct text){ "a\0b c", 5 }, got_a, &rest);
	line_parse("f", (struct text){ "a\0d c", 5 }, got_b, &rest);
	cr_expect_str_neq(got_a, got_b);
	cr_expect_eq(strncmp(got_a, "f/a?b#", 6), 0);
}

Test(mask, addresses)
{
	expect_mask("from 10.0.0.1 port 22", "from <ip> port <n>");
	expect_mask("10.0.0.1:8080/x", "<ip>/x");
	expect_mask("1.2.3.4:", "<ip>:");
	expect_mask("1234.1.1.1", "<n><ip>");
	expect_mask("1.1.1.1234", "<ip><n>");
	expect_mask("1.1.1.1234:5", "<ip><n>:<n>");
	expect_mask("1.2.3.4.5.6.7.8", "<ip>.<ip>");
	expect_mask("1.2.3", "<n>.<n>.<n>");
}

Test(mask, hexadecimal_words)
{
	expect_mask("0x1f", "<hex>");
	expect_mask("0x", "<n>x");
	expect_mask("0X1f", "<n>X<n>f");
	expect_mask("0x1g", "<n>x<n>g");
	expect_mask("deadbeef deadbee", "<hex> deadbee");
	expect_mask("12345678 1234567", "<hex> <n>");
	expect_mask("_deadbeef deadbeef_ -deadbeef-", "_deadbeef deadbeef_ -<hex>-");
	expect_mask("deadbeef10.0.0.1", "<hex><ip>");
	expect_mask("\377deadbeef\303\251", "\377<hex>\303\251");
}

Test(mask, digits_and_the_rest)
{
	expect_mask("", "");
	expect_mask("nothing to do", "nothing to do");
	expect_mask("k1l22m333", "k<n>l<n>m<n>");
	expect_mask("<n> <ip> <hex>", "<n> <ip> <hex>");
}
