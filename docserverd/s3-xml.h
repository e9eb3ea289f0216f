/* The little XML that object stores answer with: pure. Elements that are looked for have no
 * attributes and no elements inside; what does not look so is not there. Texts end with a NUL. */
#pragma once

#include "s3.h"

/* The text of the first <name>, with its entities read; the caller frees. NULL: none. Names have at
 * most 30 characters. */
char *s3_xml_text(const char *xml, const char *name) mustuse;
/* Calls fn for the <Key> and <LastModified> of each <Contents>; one whose time cannot be read is of
 * the far future (UINT64_MAX): then nothing is taken for old. */
void s3_xml_objects(const char *xml, s3_object_fn fn, void *userdata);
