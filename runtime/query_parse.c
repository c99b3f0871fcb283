// SPDX-License-Identifier: MIT
/*
 * Criteria as text: what people type.
 *
 * Everything parsed lives in one allocation: criteria, values, then the texts with quotes and backslashes
 * taken off, which are never longer than what was typed.
 */
#include <foundation/query.h>

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX 256 /* in all criteria of a text */

struct fnd_query {
	size_t n, nvalues;
	struct fnd_criterion criterion[FND_CRITERIA_MAX];
	struct fnd_value value[VALUES_MAX];
	char *at; /* where the next text goes */
	char text[];
};

struct parser {
	const char *begin, *p;
	struct fnd_query *q;
};

struct word {
	const char *text;
	size_t n;
	bool quoted;
};

static int wrong(const struct parser *ps, const char *what)
{
	return fnd_error_set(EINVAL, "at %zu, before \"%.20s\": %s", (size_t)(ps->p - ps->begin) + 1, ps->p, what);
}

static void blanks(struct parser *ps)
{
	while (isspace((unsigned char)*ps->p))
		ps->p++;
}

/* Up to the quote that ends it. */
static int quoted(struct parser *ps, struct word *w)
{
	char quote = *ps->p++;

	w->quoted = true;
	for (; *ps->p && *ps->p != quote; ps->p++) {
		if (*ps->p == '\\' && ps->p[1])
			ps->p++;
		*ps->q->at++ = *ps->p;
	}
	if (!*ps->p)
		return wrong(ps, "a quote is open");
	ps->p++;
	return 0;
}

/* A word ends at a blank or at one of @ends. */
static int word(struct parser *ps, const char *ends, struct word *w)
{
	int err = 0;

	blanks(ps);
	*w = (struct word){ .text = ps->q->at };
	if (*ps->p == '"' || *ps->p == '\'') {
		err = quoted(ps, w);
	} else {
		for (; *ps->p && !isspace((unsigned char)*ps->p) && !strchr(ends, *ps->p); ps->p++) {
			if (*ps->p == '\\' && ps->p[1])
				ps->p++;
			*ps->q->at++ = *ps->p;
		}
	}
	w->n = (size_t)(ps->q->at - w->text);
	*ps->q->at++ = '\0';
	return err;
}

/* Is @text next, and a word of its own? Then it is passed. */
static bool next_word(struct parser *ps, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(ps->p, text, n) != 0 || (ps->p[n] && !isspace((unsigned char)ps->p[n]) && ps->p[n] != ';'))
		return false;
	ps->p += n;
	return true;
}

static int operator(struct parser *ps, enum fnd_criterion_op *ret_op)
{
	static const struct {
		const char *sign;
		enum fnd_criterion_op op;
	} signs[] = { { "==", FND_CRITERION_EQ }, { "!=", FND_CRITERION_NE }, { "<=", FND_CRITERION_LE },
		      { ">=", FND_CRITERION_GE }, { "=", FND_CRITERION_EQ },  { "<", FND_CRITERION_LT },
		      { ">", FND_CRITERION_GT } },
	  words[] = { { "eq", FND_CRITERION_EQ }, { "ne", FND_CRITERION_NE }, { "gt", FND_CRITERION_GT },
		      { "ge", FND_CRITERION_GE }, { "lt", FND_CRITERION_LT }, { "le", FND_CRITERION_LE },
		      { "in", FND_CRITERION_IN }, { "not_in", FND_CRITERION_NOT_IN },
		      { "missing", FND_CRITERION_MISSING } };

	blanks(ps);
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		if (strncmp(ps->p, signs[i].sign, strlen(signs[i].sign)) == 0) {
			ps->p += strlen(signs[i].sign);
			*ret_op = signs[i].op;
			return 0;
		}
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (next_word(ps, words[i].sign)) {
			*ret_op = words[i].op;
			return 0;
		}
	}
	return wrong(ps, "= != < <= > >= in, not_in or missing is expected");
}

static bool number(const struct word *w, struct fnd_value *v)
{
	char *end;

	if (!isdigit((unsigned char)w->text[w->text[0] == '-' || w->text[0] == '+']) || strchr(w->text, 'x'))
		return false; /* "inf", "nan" and hexadecimal numbers are texts */
	errno = 0;
	if (!strpbrk(w->text, ".eE")) {
		v->type = w->text[0] == '-' ? FND_VALUE_INT : FND_VALUE_UINT;
		if (v->type == FND_VALUE_INT)
			v->v.i = strtoll(w->text, &end, 10);
		else
			v->v.u = strtoull(w->text, &end, 10);
		if (errno == 0)
			return *end == '\0';
		errno = 0;
	}
	v->type = FND_VALUE_DOUBLE;
	v->v.d = strtod(w->text, &end);
	return *end == '\0' && isfinite(v->v.d);
}

static void value_of(const struct word *w, struct fnd_value *v)
{
	*v = (struct fnd_value){ .type = FND_VALUE_STR, .bytes = (uint32_t)w->n };
	v->v.text = w->text;
	if (w->quoted)
		return;
	if (strcmp(w->text, "true") == 0 || strcmp(w->text, "false") == 0)
		*v = (struct fnd_value){ .type = FND_VALUE_BOOL, .v.u = w->text[0] == 't' };
	else if (strcmp(w->text, "nil") == 0 || strcmp(w->text, "null") == 0)
		*v = (struct fnd_value){ .type = FND_VALUE_NIL };
	else if (!number(w, v)) {
		*v = (struct fnd_value){ .type = FND_VALUE_STR, .bytes = (uint32_t)w->n };
		v->v.text = w->text;
	}
}

static int values(struct parser *ps, struct fnd_criterion *c)
{
	bool list = c->op == FND_CRITERION_IN || c->op == FND_CRITERION_NOT_IN;
	struct word w;
	int err;

	c->values = &ps->q->value[ps->q->nvalues];
	do {
		if (ps->q->nvalues == VALUES_MAX)
			return wrong(ps, "too many values");
		err = word(ps, list ? ",;" : ";", &w);
		if (err)
			return err;
		if (w.n == 0 && !w.quoted)
			return wrong(ps, "a value is wanting");
		value_of(&w, &ps->q->value[ps->q->nvalues++]);
		c->nvalues++;
		blanks(ps);
	} while (list && *ps->p == ',' && ps->p++);
	return 0;
}

static int criterion(struct parser *ps)
{
	struct fnd_criterion *c = &ps->q->criterion[ps->q->n];
	struct word w;
	int err;

	if (ps->q->n == FND_CRITERIA_MAX)
		return wrong(ps, "too many criteria");
	err = word(ps, "=!<>;,", &w);
	if (err)
		return err;
	if (w.n == 0)
		return wrong(ps, "an attribute is wanting");
	if (strlen(w.text) != w.n || w.n > FND_ATTRIBUTE_NAME_MAX)
		return wrong(ps, "an attribute's name has 1 to 63 bytes");
	c->attribute = w.text;
	err = operator(ps, &c->op);
	if (!err && c->op != FND_CRITERION_MISSING)
		err = values(ps, c);
	if (!err)
		ps->q->n++;
	return err;
}

int fnd_query_parse(const char *text, struct fnd_query **ret_query)
{
	struct parser ps = { .begin = text, .p = text };
	int err = 0;

	if (!text)
		return fnd_error_set(EINVAL, "no text");
	/* a word takes a byte more than was typed, and every two words have one between them, or a sign */
	ps.q = calloc(1, sizeof(*ps.q) + 2 * strlen(text) + 2);
	if (!ps.q)
		return -ENOMEM;
	ps.q->at = ps.q->text;
	for (blanks(&ps); *ps.p && !err; blanks(&ps)) {
		err = criterion(&ps);
		blanks(&ps);
		if (err || !*ps.p)
			break;
		if (*ps.p == ';')
			ps.p++;
		else if (!next_word(&ps, "and"))
			err = wrong(&ps, "\"and\" or \";\" is expected");
		else if (blanks(&ps), !*ps.p)
			err = wrong(&ps, "a criterion is wanting");
	}
	if (!err)
		err = fnd_query_check(ps.q->criterion, ps.q->n);
	if (err) {
		free(ps.q);
		return err;
	}
	*ret_query = ps.q;
	return 0;
}

void fnd_query_free(struct fnd_query *q)
{
	free(q);
}

const struct fnd_criterion *fnd_query_criteria(const struct fnd_query *q, size_t *ret_n)
{
	*ret_n = q->n;
	return q->criterion;
}
