/* Texts in JSON on stdout, whatever bytes they hold. */
#ifndef CROCUTA_LAUNCH_JSON_TEXT_H
#define CROCUTA_LAUNCH_JSON_TEXT_H

/* Names are bytes; one that is no UTF-8 is shown as Latin-1, so that the document stays valid. */
void json_put_text(const char *text);
/* "key": "text" */
void json_put_key(const char *key, const char *text);

#endif
