/*
 * Preloaded into User-Mode Linux, so that it runs on processors with more register state than it
 * knows.
 *
 * Kernels that trace want the whole extended state of a processor when registers are set
 * (PTRACE_SETREGSET, NT_X86_XSTATE) and refuse a shorter one with EFAULT. User-Mode Linux before
 * 6.13 hands in 2,696 bytes, enough for AVX-512 but not for AMX, and its first process dies. What
 * is missing belongs to units that no process of the guest was allowed to use, so it is zero.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PEEKTEXT = 1, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202 };

static unsigned char whole[1 << 16] __attribute__((aligned(64)));
static size_t whole_bytes;

static long raw(long request, long pid, void *address, void *data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

static long set_xstate(long pid, void *address, struct iovec *given)
{
	struct iovec all = { whole, sizeof whole };

	if (whole_bytes == 0) {
		if (raw(GETREGSET, pid, address, &all) != 0)
			return -1;
		whole_bytes = all.iov_len;
	}
	if (given->iov_len >= whole_bytes)
		return raw(SETREGSET, pid, address, given);
	memset(whole, 0, whole_bytes);
	memcpy(whole, given->iov_base, given->iov_len);
	all.iov_len = whole_bytes;
	return raw(SETREGSET, pid, address, &all);
}

long ptrace(int request, ...)
{
	va_list rest;
	long pid, answer, word;
	void *address, *data;

	va_start(rest, request);
	pid = va_arg(rest, int);
	address = va_arg(rest, void *);
	data = va_arg(rest, void *);
	va_end(rest);
	if (request >= PEEKTEXT && request <= PEEKUSER) {
		/* The C library returns the word, the system call stores it. */
		answer = raw(request, pid, address, &word);
		if (answer != 0)
			return answer;
		errno = 0;
		return word;
	}
	if (request == SETREGSET && address == (void *)XSTATE)
		return set_xstate(pid, address, data);
	return raw(request, pid, address, data);
}
