/* Error replies: their text made safe to send, and the code that stands for an errno. */
#include "reply.h"

void reply_text(char ret[static REPLY_TEXT_MAX], const char *fmt, va_list ap)
{
        if (vsnprintf(ret, REPLY_TEXT_MAX, fmt, ap) < 0)
                ret[0] = '\0';
        size_t n = strlen(ret);
        /* The cut may have gone through a character of up to four bytes. */
        for (int i = 0; i < 4 && n > 0 && !utf8_valid(ret, n); i++)
                n--;
        if (n > 0 && !utf8_valid(ret, n)) {
                n = strlen(ret);
                for (size_t i = 0; i < n; i++)
                        if ((uint8_t) ret[i] >= 0x80)
                                ret[i] = '?';
        }
        ret[n] = '\0';
}

enum error_code reply_code(int r)
{
        switch (-r) {
        case EINVAL:
        case EBADMSG:
        case EILSEQ:
                return ERROR_CODE_BAD_REQUEST;
        case ENOENT:
                return ERROR_CODE_NOT_FOUND;
        case EEXIST:
                return ERROR_CODE_CONFLICT;
        case EACCES:
        case EPERM:
                return ERROR_CODE_FORBIDDEN;
        case EMSGSIZE:
        case EFBIG:
                return ERROR_CODE_TOO_LARGE;
        case ESTALE:
                return ERROR_CODE_STALE_EPOCH;
        case ETIMEDOUT:
                return ERROR_CODE_TIMEOUT;
        case EAGAIN:
        case EBUSY:
        case ENOBUFS:
        case ENOSPC:
        case ENOTCONN:
        case ECONNRESET:
        case ECONNREFUSED:
                return ERROR_CODE_UNAVAILABLE;
        default:
                return ERROR_CODE_INTERNAL;
        }
}
