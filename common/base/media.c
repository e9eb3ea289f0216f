/* Media types by file name, as IANA registers them. */
#include "media.h"

#include <strings.h>

#include "util.h"

static const struct {
        const char *suffix, *type;
} types[] = {
        { "css", "text/css" },          { "csv", "text/csv" },
        { "gif", "image/gif" },         { "htm", "text/html" },
        { "html", "text/html" },        { "ico", "image/x-icon" },
        { "jpeg", "image/jpeg" },       { "jpg", "image/jpeg" },
        { "js", "text/javascript" },    { "json", "application/json" },
        { "log", "text/plain" },        { "map", "application/json" },
        { "md", "text/markdown" },      { "mjs", "text/javascript" },
        { "mp4", "video/mp4" },         { "webm", "video/webm" },
        { "pdf", "application/pdf" },   { "png", "image/png" },
        { "py", "text/x-python" },      { "svg", "image/svg+xml" },
        { "ttf", "font/ttf" },          { "txt", "text/plain" },
        { "wasm", "application/wasm" }, { "webmanifest", "application/manifest+json" },
        { "webp", "image/webp" },       { "woff2", "font/woff2" },
        { "xml", "application/xml" },   { "zip", "application/zip" },
};

const char *media_type_of(const char *filename)
{
        const char *dot = strrchr(filename, '.');

        for (size_t i = 0; dot && i < ARRAY_LEN(types); i++)
                if (strcasecmp(dot + 1, types[i].suffix) == 0)
                        return types[i].type;
        return "application/octet-stream";
}
