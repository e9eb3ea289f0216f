/* What rpc.c and fdlink.c share when a request fails. */
#pragma once

#include "proto/wire.h"

#define REPLY_TEXT_MAX 501 /* with NUL; the limit of error_reply.message in the schema */

/* Formats a message that is sure to pack: cut to the limit, always valid UTF-8. */
void reply_text(char ret[static REPLY_TEXT_MAX], const char *fmt, va_list ap) printf_like(2, 0);

/* The code for a handler that returned a negative errno without having replied. */
enum error_code reply_code(int r);
