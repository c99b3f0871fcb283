/* SPDX-License-Identifier: MIT */
/* The command line. */
#include "orders.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"orders serve --segment NAME --socket PATH --log FILE [--workers N] [--form json|logfmt]\n"
	"orders send --socket PATH [--no-wait] [--timeout MS] [--traceparent TEXT] ID ITEM [PIECES]\n"
	"\n"
	"A service of N workers (4) that pack what is ordered, 10 ms a piece: anvil, chair, lamp, table.\n"
	"SIGTERM ends it, SIGHUP opens its log again. Exit status: 0 fine, 1 the order failed, 2 usage,\n"
	"3 cannot open, attach or reach, 5 no answer in time.\n";

static const struct option options[] = {
	{ "segment", required_argument, NULL, 's' },  { "socket", required_argument, NULL, 'S' },
	{ "log", required_argument, NULL, 'l' },      { "workers", required_argument, NULL, 'w' },
	{ "form", required_argument, NULL, 'f' },     { "no-wait", no_argument, NULL, 'n' },
	{ "timeout", required_argument, NULL, 't' },  { "traceparent", required_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },	      { NULL, 0, NULL, 0 }
};

static int refuse(void)
{
	fprintf(stderr, "%s", usage);
	return EXIT_USAGE;
}

static bool number(const char *text, unsigned long max, unsigned int *ret_number)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n == 0 || n > max)
		return false;
	*ret_number = (unsigned int)n;
	return true;
}

static bool take(struct settings *s, int key)
{
	switch (key) {
	case 's':
		s->segment = optarg;
		return true;
	case 'S':
		s->socket_path = optarg;
		return true;
	case 'l':
		s->log_path = optarg;
		return true;
	case 'w':
		return number(optarg, WORKERS_MAX, &s->workers);
	case 'f':
		s->form = strcmp(optarg, "json") == 0 ? FND_LOG_JSON : FND_LOG_LOGFMT;
		return s->form == FND_LOG_JSON || strcmp(optarg, "logfmt") == 0;
	case 'n':
		s->no_wait = true;
		return true;
	case 't':
		return number(optarg, 3600000, &s->timeout_ms);
	case 'p':
		s->traceparent = optarg;
		return true;
	default:
		return false;
	}
}

int main(int argc, char **argv)
{
	struct settings s = { .workers = 4, .form = FND_LOG_JSON, .timeout_ms = 10000 };
	unsigned int pieces;
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == 'h') {
			printf("%s", usage);
			return EXIT_FINE;
		}
		if (!take(&s, key))
			return refuse();
	}
	argc -= optind;
	argv += optind;
	if (argc == 1 && strcmp(argv[0], "serve") == 0 && s.segment && s.socket_path && s.log_path)
		return service_run(&s);
	if ((argc == 3 || argc == 4) && strcmp(argv[0], "send") == 0 && s.socket_path &&
	    (argc == 3 || number(argv[3], 1000000, &pieces)))
		return send_order(&s, argv[1], argv[2], argc == 4 ? argv[3] : "1");
	return refuse();
}
