/* stream.c - streams and events: the public names of what engines do. */
#include "group.h"

static void count_objects(sy_group *group, int by)
{
    pthread_mutex_lock(&group->lock);
    group->objects += by;
    pthread_mutex_unlock(&group->lock);
}

static struct sy_handle *handle_of(void *object)
{
    return object;
}

/* --- streams -------------------------------------------------------------------------------- */

sy_status sy_stream_create(sy_group *group, sy_stream **stream)
{
    SY_NEED(group && stream, "sy_stream_create: NULL");
    SY_TRY(group->rt->ops->stream_create(group->rt, stream));
    handle_of(*stream)->group = group;
    count_objects(group, 1);
    return SY_OK;
}

sy_status sy_stream_destroy(sy_stream *stream)
{
    sy_group *group;
    if (!stream)
        return SY_OK;
    group = handle_of(stream)->group;
    group->rt->ops->stream_destroy(group->rt, stream);
    count_objects(group, -1);
    return SY_OK;
}

sy_status sy_stream_sync(sy_group *group, sy_stream *stream)
{
    SY_NEED(group, "sy_stream_sync: NULL");
    SY_TRY(group->rt->ops->stream_sync(group->rt, stream));
    return sy_group_outcome(group, "sy_stream_sync");
}

sy_status sy_stream_query(sy_group *group, sy_stream *stream)
{
    SY_NEED(group, "sy_stream_query: NULL");
    return group->rt->ops->stream_query(group->rt, stream);
}

sy_status sy_stream_call(sy_group *group, sy_stream *stream, void (*fn)(void *context),
                         void *context)
{
    SY_NEED(group && fn, "sy_stream_call: NULL");
    return group->rt->ops->call(group->rt, stream, fn, context);
}

/* --- events --------------------------------------------------------------------------------- */

sy_status sy_event_create(sy_group *group, sy_event **event)
{
    SY_NEED(group && event, "sy_event_create: NULL");
    SY_TRY(group->rt->ops->event_create(group->rt, 1, event));
    handle_of(*event)->group = group;
    count_objects(group, 1);
    return SY_OK;
}

sy_status sy_event_destroy(sy_event *event)
{
    sy_group *group;
    if (!event)
        return SY_OK;
    group = handle_of(event)->group;
    group->rt->ops->event_destroy(group->rt, event);
    count_objects(group, -1);
    return SY_OK;
}

sy_status sy_event_record(sy_event *event, sy_stream *stream)
{
    SY_NEED(event, "sy_event_record: NULL");
    return handle_of(event)->rt->ops->event_record(handle_of(event)->rt, event, stream);
}

sy_status sy_event_sync(sy_event *event)
{
    SY_NEED(event, "sy_event_sync: NULL");
    SY_TRY(handle_of(event)->rt->ops->event_sync(handle_of(event)->rt, event));
    return sy_group_outcome(handle_of(event)->group, "sy_event_sync");
}

sy_status sy_event_query(sy_event *event)
{
    SY_NEED(event, "sy_event_query: NULL");
    return handle_of(event)->rt->ops->event_query(handle_of(event)->rt, event);
}

sy_status sy_stream_wait(sy_stream *stream, sy_event *event)
{
    SY_NEED(event, "sy_stream_wait: NULL");
    return handle_of(event)->rt->ops->stream_wait(handle_of(event)->rt, stream, event);
}

sy_status sy_event_elapsed(sy_event *begin, sy_event *end, uint64_t *ns)
{
    SY_NEED(begin && end && ns, "sy_event_elapsed: NULL");
    SY_NEED(handle_of(begin)->rt == handle_of(end)->rt,
            "sy_event_elapsed: events of different groups");
    return handle_of(begin)->rt->ops->event_elapsed(handle_of(begin)->rt, begin, end, ns);
}
