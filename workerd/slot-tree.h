/* Removes folders whose contents are hostile: any depth, any modes, any number of entries, in small
 * steps. */
#pragma once

#include "common/base/util.h"

/* Works on the folder `top`, whose entries are to go: removes at most `budget` of them. Returns 1
 * when there is more to do, 0 when `top` is empty, or a negative errno (it makes no progress).
 * Never follows a symbolic link and needs no recursion: folders met inside are first moved up into
 * `top`. */
int tree_remove_some(int top, unsigned budget) mustuse;

/* Moves a folder into `top` under a name nobody has. */
int tree_lift(int from, const char *name, int top) mustuse;

/* Empties and removes the folder `name` in `parent` at once; blocks as long as that takes. */
int tree_remove(int parent, const char *name) mustuse;
