/* Listen to a run in C. Debian: apt install libzmq3-dev libmsgpack-dev; then
 * cc tap_plain.c -lzmq -lmsgpackc -o tap_plain && ./tap_plain tcp://127.0.0.1 7742 Recorded */
#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

/* Return the value of a key of a map, or NULL. */
static const msgpack_object *find(const msgpack_object *map, const char *key) {
    if (map == NULL || map->type != MSGPACK_OBJECT_MAP) return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object *name = &map->via.map.ptr[i].key;
        if (name->type == MSGPACK_OBJECT_STR && name->via.str.size == strlen(key) &&
            memcmp(name->via.str.ptr, key, strlen(key)) == 0)
            return &map->via.map.ptr[i].val;
    }
    return NULL;
}

static uint64_t big_endian(const unsigned char *bytes) {
    uint64_t number = 0;
    for (int i = 0; i < 8; i++) number = number << 8 | bytes[i];
    return number;
}

/* Receive one frame; returns whether more of the message follow. */
static int receive(void *socket, zmq_msg_t *frame) {
    int more = 0;
    size_t size = sizeof more;
    zmq_msg_init(frame);
    if (zmq_msg_recv(frame, socket, 0) < 0) return -1;
    zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    return more;
}

int main(int argc, char **argv) {
    char address[256], topic[128];
    zmq_msg_t frame;
    msgpack_unpacked header;
    if (argc < 3) return fprintf(stderr, "usage: tap_plain tcp://HOST PORT TOPIC...\n"), 2;
    void *context = zmq_ctx_new(), *door = zmq_socket(context, ZMQ_DEALER), *tap = zmq_socket(context, ZMQ_SUB);
    int linger = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    zmq_setsockopt(door, ZMQ_LINGER, &linger, sizeof linger);

    snprintf(address, sizeof address, "%s:%s", argv[1], argv[2]);
    if (zmq_connect(door, address) != 0) return fprintf(stderr, "%s: %s\n", address, zmq_strerror(zmq_errno())), 1;
    zmq_send(door, "describe", 8, 0);
    while (receive(door, &frame) == 1) zmq_msg_close(&frame); /* the word "describe", then the header */
    msgpack_unpacked_init(&header);
    if (msgpack_unpack_next(&header, zmq_msg_data(&frame), zmq_msg_size(&frame), NULL) != MSGPACK_UNPACK_SUCCESS)
        return fprintf(stderr, "%s is no run\n", address), 1;
    const char *ports[] = {"facts_port", "images_port"};
    for (int i = 0; i < 2; i++) {
        const msgpack_object *port = find(find(&header.data, "fields"), ports[i]);
        if (port == NULL || port->via.u64 == 0) continue;
        snprintf(address, sizeof address, "%s:%" PRIu64, argv[1], port->via.u64);
        zmq_connect(tap, address);
    }
    zmq_msg_close(&frame);
    for (int i = 3; i < argc; i++) {
        snprintf(topic, sizeof topic, "%s.", argv[i]);
        zmq_setsockopt(tap, ZMQ_SUBSCRIBE, topic, strlen(topic));
    }
    zmq_setsockopt(tap, ZMQ_SUBSCRIBE, "end.", 4);
    puts("now");
    for (int is_over = 0; !is_over;) {
        int more = receive(tap, &frame);
        if (more < 0) return 1;
        is_over = zmq_msg_size(&frame) == 4 && memcmp(zmq_msg_data(&frame), "end.", 4) == 0;
        for (int number = 1; more == 1; number++) {
            zmq_msg_close(&frame);
            more = receive(tap, &frame);
            if (number == 1 && !is_over) {
                printf("%" PRIu64 " ", big_endian(zmq_msg_data(&frame)));
            } else if (number == 2 && msgpack_unpack_next(&header, zmq_msg_data(&frame), zmq_msg_size(&frame),
                                                          NULL) == MSGPACK_UNPACK_SUCCESS) {
                msgpack_object_print(stdout, header.data);
                puts("");
            } else if (!is_over) {
                printf("array of %zu bytes\n", zmq_msg_size(&frame));
            }
        }
        zmq_msg_close(&frame);
        fflush(stdout);
    }
    msgpack_unpacked_destroy(&header);
    zmq_close(door);
    zmq_close(tap);
    zmq_ctx_term(context);
    return 0;
}
