/* Logits of a prompt by llama.cpp, with or without an adapter: MODEL ADAPTER|- OUT.f32 ID...
 * Debian sid: apt install libllama-dev gcc; gcc -O1 lora_logits.c -lllama. See lora.py. */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc < 5) {
        return 2;
    }
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_context_params how = llama_context_default_params();
    how.n_ctx = 512;
    how.n_threads = how.n_threads_batch = 1;
    how.type_k = how.type_v = GGML_TYPE_F32;
    how.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = model ? llama_init_from_model(model, how) : NULL;
    if (!context) {
        return 1;
    }
    if (strcmp(argv[2], "-") != 0) {
        struct llama_adapter_lora *adapter = llama_adapter_lora_init(model, argv[2]);
        float scale = 1;
        if (!adapter || llama_set_adapters_lora(context, &adapter, 1, &scale)) {
            return 1;
        }
    }
    int n = argc - 4, n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        batch.token[i] = atoi(argv[4 + i]);
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_decode(context, batch)) {
        return 1;
    }
    FILE *out = fopen(argv[3], "wb");
    for (int i = 0; out && i < n; i++) {
        fwrite(llama_get_logits_ith(context, i), sizeof(float), (size_t)n_vocab, out);
    }
    return out && fclose(out) == 0 ? 0 : 1;
}
