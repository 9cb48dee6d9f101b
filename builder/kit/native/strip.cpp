// `trim` and `strip` of chat templates as Python has them, whose characters are Unicode's: llama.cpp's know ASCII's white space
// only, byte by byte. Takes the place of its function by a rename at compile time (CMakeLists.txt).
#include "jinja/string.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace {

// What str.isspace() of Python is true for.
const std::string_view WHITE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
                               "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000";

bool continues(char byte) {
    return ((unsigned char) byte & 0xc0) == 0x80;
}

// How many bytes the first character of a text in UTF-8 has: 0 for none, or one that is broken.
size_t first(std::string_view text) {
    if (text.empty() || continues(text[0])) {
        return 0;
    }
    size_t length = 1;
    while (length < text.size() && continues(text[length])) {
        length++;
    }
    const unsigned char lead = text[0];
    const size_t        told = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return length == told ? length : 0;
}

// Likewise of the last one.
size_t last(std::string_view text) {
    size_t begin = text.size();
    while (begin > 0 && continues(text[--begin])) {
    }
    return first(text.substr(begin));
}

// Whether a character is one of a set; none is for a length of 0.
bool is_in(std::string_view set, std::string_view character) {
    return !character.empty() && set.find(character) != std::string_view::npos;
}

// The length of the character at an end of the text if the set has it, else 0.
size_t removable(std::string_view text, bool left, std::string_view set) {
    const size_t length = left ? first(text) : last(text);
    return is_in(set, text.substr(left ? 0 : text.size() - length, length)) ? length : 0;
}

}  // namespace

jinja::string jinja::string::strip(bool left, bool right, std::optional<const std::string_view> chars) {
    const std::string_view set = chars ? *chars : WHITE;
    while (left && !parts.empty()) {
        std::string & text = parts.front().val;
        size_t        begin = 0;
        while (const size_t length = removable(std::string_view(text).substr(begin), true, set)) {
            begin += length;
        }
        text.erase(0, begin);
        if (!text.empty()) {
            break;
        }
        parts.erase(parts.begin());
    }
    while (right && !parts.empty()) {
        std::string & text = parts.back().val;
        while (const size_t length = removable(text, false, set)) {
            text.resize(text.size() - length);
        }
        if (!text.empty()) {
            break;
        }
        parts.pop_back();
    }
    return *this;
}
