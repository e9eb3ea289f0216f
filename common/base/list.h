/* Intrusive doubly linked list. The head is a node that points to itself when empty. */
#pragma once

#include "util.h"

struct list {
        struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
        l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
        return l->next == l;
}

static inline void list_insert_before(struct list *pos, struct list *n)
{
        n->next = pos;
        n->prev = pos->prev;
        pos->prev->next = n;
        pos->prev = n;
}

static inline void list_push_back(struct list *head, struct list *n)
{
        list_insert_before(head, n);
}

static inline void list_push_front(struct list *head, struct list *n)
{
        list_insert_before(head->next, n);
}

/* Removing an unlinked (self-pointing or zeroed) node does nothing. */
static inline void list_remove(struct list *n)
{
        if (!n->next)
                return;
        n->prev->next = n->next;
        n->next->prev = n->prev;
        list_init(n);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(head, type, member)                                                             \
        (list_empty(head) ? NULL : list_entry((head)->next, type, member))
#define list_foreach(it, head, member)                                                             \
        for (it = list_entry((head)->next, typeof(*it), member); &it->member != (head);            \
             it = list_entry(it->member.next, typeof(*it), member))
/* The loop body may remove `it`, but not its successor. */
#define list_foreach_safe(it, tmp, head, member)                                                   \
        for (it = list_entry((head)->next, typeof(*it), member),                                   \
            tmp = list_entry(it->member.next, typeof(*it), member);                                \
             &it->member != (head);                                                                \
             it = tmp, tmp = list_entry(tmp->member.next, typeof(*it), member))
