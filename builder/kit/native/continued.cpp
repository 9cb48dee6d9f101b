// Continues an assistant's message that ends a conversation as transformers does (`apply_chat_template` with
// `continue_final_message`): the template writes the message, and the prompt ends where its text ends. llama.cpp has the template
// write what comes before, then what an answer begins with, and appends the text, which is not always what the model knows:
// LLaMA 2 has a space between, a thinking model does not think in what was said before. Takes the place of llama.cpp's function
// by a rename at compile time (CMakeLists.txt).
#include "chat.h"
#include "jinja/string.h"

#include <exception>
#include <optional>
#include <string>

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

// Nothing where the template does not write the message, or not all of it: then llama.cpp's own way is left.
std::optional<std::string> prompt_of(const common_chat_templates * templates, common_chat_templates_inputs inputs) {
    if (!inputs.use_jinja || inputs.continue_final_message == COMMON_CHAT_CONTINUATION_NONE || inputs.messages.empty()) {
        return std::nullopt;
    }
    common_chat_msg & message = inputs.messages.back();
    std::string *     text    = text_of(message);
    if (!text || !message.reasoning_content.empty()) {
        return std::nullopt;
    }
    const std::string said = stripped(*text, true);
    *text += MARK + SPACE;
    inputs.continue_final_message = COMMON_CHAT_CONTINUATION_NONE;
    inputs.add_generation_prompt  = false;
    try {
        const std::string written = common_chat_templates_apply(templates, inputs).prompt;
        const size_t      end     = written.rfind(MARK);
        if (end == std::string::npos) {
            return std::nullopt;
        }
        const std::string prompt  = written.substr(0, end);
        const bool        is_kept = written.compare(end + MARK.size(), SPACE.size(), SPACE) == 0;
        return prompt.find(said) == std::string::npos ? std::nullopt : std::optional(is_kept ? prompt : stripped(prompt, false));
    } catch (const std::exception &) {  // the template wants another role to come last
        return std::nullopt;
    }
}

}  // namespace

common_chat_params mkllm_chat_templates_apply(const common_chat_templates * templates, const common_chat_templates_inputs & inputs) {
    common_chat_params made = common_chat_templates_apply(templates, inputs);
    made.prompt = prompt_of(templates, inputs).value_or(made.prompt);
    return made;
}
