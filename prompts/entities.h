/* Named character references of HTML5: "amp;" -> "&". */
#ifndef TS_ENTITIES_H
#define TS_ENTITIES_H
typedef struct {
    const char *name, *text;
} ts_entity;
extern const ts_entity ts_entities[]; /* sorted by bytes of the name */
extern const int ts_entity_count;
#endif
