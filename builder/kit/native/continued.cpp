// Continues the message that ends a conversation as transformers does (`apply_chat_template` with `continue_final_message`): the
// template writes the message, and the prompt ends where its text ends. llama.cpp has the template write what comes before, then
// what an answer begins with, and appends the text, which is not always what the model knows: LLaMA 2 has a space between, a
// thinking model does not think in what was said before. An empty message is as none. Takes the place of llama.cpp's function by a
// rename at compile time (CMakeLists.txt).
#include "chat.h"
#include "jinja/string.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <vector>

common_chat_params mkllm_chat_templates_apply(const common_chat_templates * templates, const common_chat_templates_inputs & inputs);

namespace {

// Stands where the text ends. The space tells whether the template trims what follows.
const std::string MARK  = "MKLLM-CONTINUES-HERE";
const std::string SPACE = " ";

// The text that is to be continued; null where the message has none.
std::string * text_of(common_chat_msg & message) {
    if (message.content_parts.empty()) {
        return &message.content;
    }
    common_chat_msg_content_part & part = message.content_parts.back();
    return part.type == "text" ? &part.text : nullptr;
}

std::string stripped(const std::string & text, bool left) {
    return jinja::string(text).strip(left, true).str();
}

// An answer is parsed as what llama.cpp's own prompt begins; a thought that only the template leaves open would be taken for text.
bool leaves_a_thought_open(const std::string & prompt, const common_chat_params & made) {
    const size_t begin = made.thinking_start_tag.empty() ? std::string::npos : prompt.rfind(made.thinking_start_tag);
    if (begin == std::string::npos) {
        return false;
    }
    return std::all_of(made.thinking_end_tags.begin(), made.thinking_end_tags.end(),
                       [&](const std::string & tag) { return prompt.find(tag, begin) == std::string::npos; });
}

// A template without a system prompt gets it in front of the next message, which must not be the one that is continued.
bool is_merged_into(const common_chat_templates * templates, const std::vector<common_chat_msg> & messages) {
    return messages.size() == 2 && messages[0].role == "system" &&
           !common_chat_templates_get_caps(templates)["supports_system_role"];
}

// Nothing where the template does not write the message, or not all of it, or elsewhere too: then llama.cpp's own way is left.
// `text` is that of the last message in `inputs`; both are used up.
std::optional<std::string> prompt_of(const common_chat_templates * templates, common_chat_templates_inputs & inputs, std::string & text) {
    const std::string said = stripped(text, true);
    text += MARK + SPACE;
    inputs.continue_final_message = COMMON_CHAT_CONTINUATION_NONE;
    inputs.add_generation_prompt  = false;
    try {
        const std::string written = common_chat_templates_apply(templates, inputs).prompt;
        const size_t      end     = written.find(MARK);
        if (end == std::string::npos || end != written.rfind(MARK)) {
            return std::nullopt;
        }
        const std::string prompt = written.substr(0, end);
        if (prompt.find(said) == std::string::npos) {
            return std::nullopt;
        }
        const bool is_trimmed = written.compare(end + MARK.size(), SPACE.size(), SPACE) != 0;
        return is_trimmed ? stripped(prompt, false) : prompt;
    } catch (const std::exception &) {  // the template wants another role to come last
        return std::nullopt;
    }
}

}  // namespace

common_chat_params mkllm_chat_templates_apply(const common_chat_templates * templates, const common_chat_templates_inputs & given) {
    const auto wanted = given.continue_final_message;
    if (!given.use_jinja || given.messages.empty() || wanted == COMMON_CHAT_CONTINUATION_NONE ||
        wanted == COMMON_CHAT_CONTINUATION_REASONING || !given.messages.back().reasoning_content.empty()) {
        return common_chat_templates_apply(templates, given);
    }
    common_chat_templates_inputs inputs = given;
    std::string *                text   = text_of(inputs.messages.back());
    if (text && stripped(*text, true).empty() && inputs.messages.size() > 1) {
        inputs.messages.pop_back();
        inputs.continue_final_message = COMMON_CHAT_CONTINUATION_NONE;
        inputs.add_generation_prompt  = true;
        return common_chat_templates_apply(templates, inputs);
    }
    common_chat_params made = common_chat_templates_apply(templates, given);
    if (text && !is_merged_into(templates, inputs.messages)) {
        const auto prompt = prompt_of(templates, inputs, *text);
        if (prompt && !leaves_a_thought_open(*prompt, made)) {
            made.prompt = *prompt;
        }
    }
    return made;
}
