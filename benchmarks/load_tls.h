/*
 * TLS for load.c, if that is compiled with -DWITH_OPENSSL; without it there is none, and nothing to link.
 *
 * One certificate is like another here: nothing is verified but the handshake itself.  All offer the same: TLS 1.3,
 * X25519, ECDSA with P-256, AES-128-GCM.
 */
#ifndef LOAD_TLS_H
#define LOAD_TLS_H
#include <stdbool.h>
#include <sys/types.h>

#define NO_TICKET -1

#ifdef WITH_OPENSSL
#define HAS_TLS true

struct tls;

/* A client's end of TLS on a socket.  `place`: whose last ticket is shown, and where the next one is kept; or NO_TICKET. */
struct tls *tls_begin(int fd, int place);

/* Go on with the handshake; whether it is done.  If not, errno is EAGAIN or says what is wrong. */
bool tls_handshake(struct tls *tls);

/* Whether a ticket was taken. */
bool tls_resumed(struct tls *tls);

/* Like send(2) and recv(2), of a record at most; errno is EAGAIN, or EPROTO where TLS itself failed. */
ssize_t tls_send(struct tls *tls, const void *data, size_t size);
ssize_t tls_recv(struct tls *tls, void *into, size_t size);

/* Forget it, in order with a close_notify or without.  The socket stays the caller's. */
void tls_end(struct tls *tls, bool in_order);

#else
#define HAS_TLS false
#define tls_begin(fd, place) NULL
#define tls_handshake(tls) false
#define tls_resumed(tls) false
#define tls_send(tls, data, size) -1
#define tls_recv(tls, into, size) -1
#define tls_end(tls, in_order) (void)0
#endif

#endif
