/* Where programs in a slot find the egress proxy: on 127.0.0.1 of the slot's own network. */
#pragma once

#define EGRESS_PORT 3128
