/* SPDX-License-Identifier: BSD-3-Clause */
/* Hosts and cuts; see netcut.h. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/netcut.h"

enum { COMMAND_MAX = 2048 };

static pid_t keeper[NETCUT_HOSTS]; /* of a host's namespace */
static int losses;                 /* rules of the router */

/* A command of ip's batch mode a line. */
static int ip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int ip(const char *fmt, ...)
{
	char text[COMMAND_MAX];
	va_list ap;
	FILE *f;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	f = n < (int)sizeof(text) ? popen("ip -batch -", "w") : NULL;
	if (f && fputs(text, f) >= 0 && !pclose(f))
		return 0;
	fprintf(stderr, "ip failed: %s\n", text);
	return 1;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), bad;

	bad = fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text);
	if (bad)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return bad;
}

int netcut_init(void)
{
	if (unshare(CLONE_NEWNET)) {
		printf("no network namespaces here: %s\n", strerror(errno));
		return 77;
	}
	return write_file("/proc/sys/net/ipv4/ip_forward", "1");
}

int netcut_enter(int host)
{
	char path[64];
	int fd, bad;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)keeper[host]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bad = fd < 0 || setns(fd, CLONE_NEWNET);
	if (bad)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return bad;
}

/* The same command, there. */
static int ip_at(int host, const char *text)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(netcut_enter(host) || ip("%s", text));
	return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

/* A process that keeps a namespace; it is there when this returns. */
static int keep(int host)
{
	pid_t parent = getpid();
	int done[2];
	char byte;

	if (pipe2(done, O_CLOEXEC))
		return 1;
	keeper[host] = fork();
	if (keeper[host] == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || unshare(CLONE_NEWNET))
			_exit(1);
		if (write(done[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(done[1]);
	parent = read(done[0], &byte, 1) == 1 ? 0 : 1;
	close(done[0]);
	return (int)parent;
}

int netcut_host_up(int host)
{
	char text[COMMAND_MAX];

	if (keep(host))
		return 1;
	snprintf(text, sizeof(text), "link set lo up\naddr add 10.77.0.%d/32 dev cx0\n"
		 "link set cx0 up\nroute add 10.78.0.1 dev cx0\n"
		 "route add default via 10.78.0.1\n", host + 1);
	return ip("link add cx0 netns %d type veth peer name h%d\naddr add 10.78.0.1/32 dev h%d\n"
		  "link set h%d up\nroute add 10.77.0.%d dev h%d\n", (int)keeper[host], host, host,
		  host, host + 1, host) || ip_at(host, text);
}

void netcut_host_down(int host)
{
	ip("link del h%d\n", host); /* at once; the namespace goes when the kernel likes */
	kill(keeper[host], SIGKILL);
	waitpid(keeper[host], NULL, 0);
	keeper[host] = 0;
}

int netcut_part(unsigned from, unsigned to, bool both)
{
	char text[COMMAND_MAX] = "";
	size_t at = 0;

	for (int a = 0; a < NETCUT_HOSTS; a++)
		for (int b = 0; b < NETCUT_HOSTS; b++) {
			bool one = from >> a & to >> b & 1, other = from >> b & to >> a & 1;

			if (one || (both && other))
				at += (size_t)snprintf(text + at, sizeof(text) - at,
						       "rule add pref %d from 10.77.0.%d to "
						       "10.77.0.%d blackhole\n", 101 + losses++,
						       a + 1, b + 1);
		}
	return ip("%s", text);
}

int netcut_heal(void)
{
	char text[COMMAND_MAX] = "";
	size_t at = 0;

	for (; losses; losses--)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "rule del pref %d\n",
				       100 + losses);
	return at ? ip("%s", text) : 0;
}

int netcut_link(int host, bool up)
{
	/* With the link its routes go, too. */
	return ip_at(host, up ? "link set cx0 up\nroute add 10.78.0.1 dev cx0\n"
				"route add default via 10.78.0.1\n" : "link set cx0 down\n");
}

int netcut_slow(int host, int mbit)
{
	char text[128];

	if (mbit)
		snprintf(text, sizeof(text), "tc qdisc replace dev h%d root tbf rate %dmbit "
			 "burst 4kb limit 32kb", host, mbit);
	else
		snprintf(text, sizeof(text), "tc qdisc del dev h%d root", host);
	fflush(stdout);
	return system(text) != 0;
}
