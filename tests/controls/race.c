/* SPDX-License-Identifier: MIT */
/* Two threads write one variable without order, on purpose. */
#include <pthread.h>

static int shared;

static void *writer(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		shared++;
	return NULL;
}

int main(void)
{
	pthread_t a, b;

	if (pthread_create(&a, NULL, writer, NULL) || pthread_create(&b, NULL, writer, NULL))
		return 2;
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	return 0;
}
