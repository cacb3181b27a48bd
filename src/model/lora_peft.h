/* Adapters for Hugging Face PEFT. */
#ifndef RV_MODEL_LORA_PEFT_H
#define RV_MODEL_LORA_PEFT_H
#include "model/lora.h"

/** rv_lora_write_peft - adapter_model.safetensors and adapter_config.json in folder, which is made when missing. base: what the
 * configuration names as the model. RV_E_IO, RV_E_NOMEM. */
rv_err rv_lora_write_peft(const rv_lora *lora, const char *folder, const char *base) RV_MUST_CHECK;
#endif
