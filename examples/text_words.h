// Turns a text into the numbers of its words, as text_lstm.py does. For C and C++.
#ifndef TEXT_WORDS_H_
#define TEXT_WORDS_H_

#include <stdint.h>
#include <string.h>

#include "vocabulary.h"

// Writes `words_length` numbers: 0 is padding in front, 1 a word that is not in the vocabulary.
// Of a longer text the end is taken. A word is letters of ASCII, digits and apostrophes.
static inline void words_encode(const char* text, int32_t* ids) {
  char word[words_longest + 2];
  int size = 0;
  memset(ids, 0, words_length * sizeof ids[0]);
  for (;; text++) {
    const char c = *text >= 'A' && *text <= 'Z' ? (char)(*text + 32) : *text;
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'') {
      if (size <= words_longest) word[size++] = c;  // one more than a known word has, and no more
      continue;
    }
    if (size) {
      int low = 0, high = words_count;
      word[size] = '\0';
      while (low < high) {
        const int middle = (low + high) / 2;
        if (strcmp(words_known[middle], word) < 0) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      memmove(ids, ids + 1, (words_length - 1) * sizeof ids[0]);
      ids[words_length - 1] =
          low < words_count && strcmp(words_known[low], word) == 0 ? low + 2 : 1;
      size = 0;
    }
    if (*text == '\0') return;
  }
}

#endif  // TEXT_WORDS_H_
