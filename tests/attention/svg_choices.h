/* --attention svg on a backend of testing_open: every head gets whichever of its two patterns is
 * nearer to full attention in the dense step that searches. */
#ifndef SVG_CHOICES_H
#define SVG_CHOICES_H
#define SVG_POLICY "svg:keep=0.4,min-tokens=0,search-steps=1"
void svg_choices(const char *backend, int shape); /* of sparse_run.h */
#endif
