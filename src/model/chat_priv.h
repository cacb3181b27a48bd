/* Words of the chat format that both writing and reading it need. */
#ifndef RV_MODEL_CHAT_PRIV_H
#define RV_MODEL_CHAT_PRIV_H

#define CALL_BEGIN     "<|tool_call_start|>"
#define CALL_END       "<|tool_call_end|>"
#define MAX_CALL_DEPTH 32 /* lists and dictionaries inside an argument; also bounds our recursion */

#endif
