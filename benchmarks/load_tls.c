#include "load_tls.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define PLACES 4096

static SSL_SESSION *tickets[PLACES];

static int keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    intptr_t place = (intptr_t)SSL_get_app_data(ssl);
    if (place < 0 || place >= PLACES)
        return 0;
    SSL_SESSION_free(tickets[place]);
    tickets[place] = ticket;
    return 1;
}

static SSL_CTX *context(void)
{
    static SSL_CTX *made;
    if (made)
        return made;
    made = SSL_CTX_new(TLS_client_method());
    if (!made || !SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(made, "X25519") ||
        !SSL_CTX_set1_sigalgs_list(made, "ECDSA+SHA256")) {
        fprintf(stderr, "load-tls: this OpenSSL lacks what the benchmarks need\n");
        exit(1);
    }
    SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(made, keep_ticket);
    return made;
}

struct tls *tls_begin(int fd, int place)
{
    SSL *ssl = SSL_new(context());
    if (!ssl)
        abort();
    SSL_set_fd(ssl, fd);
    SSL_set_app_data(ssl, (void *)(intptr_t)place);
    if (place >= 0 && place < PLACES && tickets[place])
        SSL_set_session(ssl, tickets[place]);
    SSL_set_connect_state(ssl);
    return (struct tls *)ssl;
}

/* What a failed call means, as errno; 0 stands for an end in order. */
static void explain(SSL *ssl, int result)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; break;
    case SSL_ERROR_ZERO_RETURN: errno = 0; break;
    case SSL_ERROR_SYSCALL: errno = errno ? errno : EPROTO; break;
    default: errno = EPROTO;
    }
    ERR_clear_error();
}

bool tls_handshake(struct tls *tls)
{
    SSL *ssl = (SSL *)tls;
    errno = 0;
    int result = SSL_do_handshake(ssl);
    if (result != 1)
        explain(ssl, result);
    return result == 1;
}

bool tls_resumed(struct tls *tls)
{
    return SSL_session_reused((SSL *)tls);
}

ssize_t tls_send(struct tls *tls, const void *data, size_t size)
{
    SSL *ssl = (SSL *)tls;
    errno = 0;
    int sent = SSL_write(ssl, data, size);
    if (sent > 0)
        return sent;
    explain(ssl, sent);
    return -1;
}

ssize_t tls_recv(struct tls *tls, void *into, size_t size)
{
    SSL *ssl = (SSL *)tls;
    errno = 0;
    int got = SSL_read(ssl, into, size);
    if (got > 0)
        return got;
    explain(ssl, got);
    return errno ? -1 : 0;
}

void tls_end(struct tls *tls, bool in_order)
{
    SSL *ssl = (SSL *)tls;
    if (in_order)
        SSL_shutdown(ssl);
    else
        SSL_set_quiet_shutdown(ssl, 1);
    ERR_clear_error();
    SSL_free(ssl);
}
