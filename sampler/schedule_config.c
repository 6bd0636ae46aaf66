/* What scheduler_config.json says: which solver, and the settings that it and the model's other
 * solvers go by. */
#include "sampler/model.h"

#include <stdio.h>
#include <string.h>

/* What both classes of rectified flow know of their sigmas. */
#define SIGMAS                                                                                     \
    TS_ONLY("num_train_timesteps", "1000"), TS_ONLY("shift_terminal", "null"),                     \
        TS_ONLY("use_dynamic_shifting", "false|null"), TS_ONLY("use_karras_sigmas", "false|null"), \
        TS_ONLY("use_exponential_sigmas", "false|null"), TS_ONLY("use_beta_sigmas", "false|null"), \
        TS_IGNORED("time_shift_type")

/* What UniPC takes where its config says nothing is of another kind of model. */
static ts_status need_flow_said(ts_model *m, const ts_component *c)
{
    static const char *const key[] = {"prediction_type", "use_flow_sigmas"};
    for (int i = 0; i < 2; i++)
        if (!cJSON_HasObjectItem(c->config, key[i]))
            return ts_fail(&m->ctx->err, TS_EMODEL,
                           "%s: no \"%s\": UniPC is then not that of a rectified flow, which a %s "
                           "is",
                           c->config_path, key[i], m->dir.pipeline);
    return TS_OK;
}

static ts_status read_flow(ts_model *m, const ts_component *c)
{
    ts_key unipc[] = {{"flow_shift", TS_KEY_FLOAT, &m->shift, 0, NULL, NULL},
                      SIGMAS,
                      TS_ONLY("solver_order", "2"),
                      TS_ONLY("solver_type", "\"bh2\""),
                      TS_ONLY("predict_x0", "true"),
                      TS_ONLY("prediction_type", "\"flow_prediction\""),
                      TS_ONLY("use_flow_sigmas", "true"),
                      TS_ONLY("lower_order_final", "true"),
                      TS_ONLY("disable_corrector", "[]"),
                      TS_ONLY("final_sigmas_type", "\"zero\""),
                      TS_ONLY("thresholding", "false"),
                      TS_ONLY("solver_p", "null"),
                      /* of no consequence for flow sigmas */
                      TS_IGNORED("beta_start"),
                      TS_IGNORED("beta_end"),
                      TS_IGNORED("beta_schedule"),
                      TS_IGNORED("trained_betas"),
                      TS_IGNORED("rescale_betas_zero_snr"),
                      TS_IGNORED("sample_max_value"),
                      TS_IGNORED("dynamic_thresholding_ratio"),
                      TS_IGNORED("sigma_max"),
                      TS_IGNORED("sigma_min"),
                      TS_IGNORED("steps_offset"),
                      TS_IGNORED("timestep_spacing")};
    ts_key euler[] = {{"shift", TS_KEY_FLOAT, &m->shift, 0, NULL, NULL},
                      SIGMAS,
                      TS_ONLY("invert_sigmas", "false|null"),
                      TS_ONLY("stochastic_sampling", "false|null"),
                      TS_IGNORED("base_shift"),
                      TS_IGNORED("max_shift"),
                      TS_IGNORED("base_image_seq_len"),
                      TS_IGNORED("max_image_seq_len")};
    bool is_unipc = !strcmp(c->cls, "UniPCMultistepScheduler"),
         is_euler = !strcmp(c->cls, "FlowMatchEulerDiscreteScheduler");
    m->shift = 1;
    if (is_unipc || is_euler) {
        m->solver = is_unipc ? TS_UNIPC : TS_EULER;
        ts_status st = ts_config_read(m->ctx, c->config, c->config_path, is_unipc ? unipc : euler,
                                      is_unipc ? sizeof unipc / sizeof *unipc
                                               : sizeof euler / sizeof *euler);
        if (!st && is_unipc) st = need_flow_said(m, c);
        if (st || m->shift > 0) return st;
        return ts_fail(&m->ctx->err, TS_EMODEL, "%s: \"%s\" is %g, expected more than 0",
                       c->config_path, is_unipc ? "flow_shift" : "shift", m->shift);
    }
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s: scheduler class %s is not supported (UniPCMultistepScheduler, "
                   "FlowMatchEulerDiscreteScheduler)",
                   c->config_path, c->cls);
}

/* The place of a word in a list that ends with NULL. */
static ts_status choose_word(ts_model *m, const ts_component *c, const char *key, const char *got,
                             const char *const *list, int *out)
{
    for (*out = 0; list[*out]; ++*out)
        if (!strcmp(list[*out], got)) return TS_OK;
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s: \"%s\" is \"%s\", supported are \"%s\", \"%s\"%s%s%s", c->config_path, key,
                   got, list[0], list[1], list[2] ? ", \"" : "", list[2] ? list[2] : "",
                   list[2] ? "\"" : "");
}

typedef struct {
    char beta[64], prediction[64], spacing[64], final[64], type[64];
    bool clip;
    double range;
} words;

/* Keys of all classes, which share most; each writes down some that only others read. */
static ts_status read_keys(ts_model *m, const ts_component *c, ts_diffusion *d, words *w)
{
    ts_key keys[] = {TS_ONLY("num_train_timesteps", "1000"),
                     TS_ONLY("trained_betas", "null"),
                     TS_ONLY("thresholding", "false|null"),
                     {"beta_start", TS_KEY_FLOAT, &d->beta_start, 0, NULL, NULL},
                     {"beta_end", TS_KEY_FLOAT, &d->beta_end, 0, NULL, NULL},
                     {"beta_schedule", TS_KEY_STRING, w->beta, 0, NULL, NULL},
                     {"rescale_betas_zero_snr", TS_KEY_BOOL, &d->zero_snr, 0, NULL, NULL},
                     {"prediction_type", TS_KEY_STRING, w->prediction, 0, NULL, NULL},
                     {"timestep_spacing", TS_KEY_STRING, w->spacing, 0, NULL, NULL},
                     {"steps_offset", TS_KEY_INT, &d->offset, 0, NULL, NULL},
                     {"snr_shift_scale", TS_KEY_FLOAT, &d->snr_shift, 0, NULL, NULL},
                     {"final_sigmas_type", TS_KEY_STRING, w->final, 0, NULL, NULL},
                     {"use_karras_sigmas", TS_KEY_BOOL, &d->karras, 0, NULL, NULL},
                     TS_ONLY("use_exponential_sigmas", "false|null"),
                     TS_ONLY("use_beta_sigmas", "false|null"),
                     TS_ONLY("use_flow_sigmas", "false|null"),
                     TS_ONLY("use_lu_lambdas", "false|null"),
                     /* DPM-Solver++ */
                     {"solver_order", TS_KEY_INT, &d->order, 0, NULL, NULL},
                     {"solver_type", TS_KEY_STRING, w->type, 0, NULL, NULL},
                     {"lower_order_final", TS_KEY_BOOL, &d->lower_order_final, 0, NULL, NULL},
                     {"euler_at_final", TS_KEY_BOOL, &d->euler_at_final, 0, NULL, NULL},
                     TS_ONLY("algorithm_type", "\"dpmsolver++\""),
                     TS_ONLY("variance_type", "null"),
                     TS_ONLY("lambda_min_clipped", "null"),
                     TS_ONLY("use_dynamic_shifting", "false|null"),
                     TS_IGNORED("flow_shift"),
                     TS_IGNORED("time_shift_type"),
                     /* DDIM and LCM */
                     {"clip_sample", TS_KEY_BOOL, &w->clip, 0, NULL, NULL},
                     {"clip_sample_range", TS_KEY_FLOAT, &w->range, 0, NULL, NULL},
                     {"set_alpha_to_one", TS_KEY_BOOL, &d->alpha_to_one, 0, NULL, NULL},
                     {"original_inference_steps", TS_KEY_INT, &d->original_steps, 0, NULL, NULL},
                     {"timestep_scaling", TS_KEY_FLOAT, &d->timestep_scaling, 0, NULL, NULL},
                     /* Euler */
                     TS_ONLY("interpolation_type", "\"linear\""),
                     TS_ONLY("timestep_type", "\"discrete\""),
                     TS_ONLY("sigma_min", "null"),
                     TS_ONLY("sigma_max", "null"),
                     TS_IGNORED("dynamic_thresholding_ratio"),
                     TS_IGNORED("sample_max_value"),
                     TS_IGNORED("skip_prk_steps")};
    return ts_config_read(m->ctx, c->config, c->config_path, keys, sizeof keys / sizeof *keys);
}

static ts_status check_diffusion(ts_model *m, const ts_component *c, const ts_diffusion *d)
{
    ts_err *e = &m->ctx->err;
    if (!(d->beta_start > 0 && d->beta_start <= d->beta_end && d->beta_end < 1))
        return ts_fail(e, TS_EMODEL,
                       "%s: beta_start %g and beta_end %g: expected 0 < beta_start <= beta_end < 1",
                       c->config_path, d->beta_start, d->beta_end);
    if (!(d->snr_shift >= 0 && d->snr_shift < 1e6))
        return ts_fail(e, TS_EMODEL, "%s: \"snr_shift_scale\" is %g, expected a number above 0",
                       c->config_path, d->snr_shift);
    if (d->order < 1 || d->order > 2)
        return ts_fail(e, TS_EMODEL, "%s: \"solver_order\" is %d, supported are 1 and 2",
                       c->config_path, d->order);
    if (d->original_steps < 1 || d->original_steps > TS_MAX_STEPS)
        return ts_fail(e, TS_EMODEL, "%s: \"original_inference_steps\" is %d, expected 1 to %d",
                       c->config_path, d->original_steps, TS_MAX_STEPS);
    if (d->offset < 0 || d->offset > 999)
        return ts_fail(e, TS_EMODEL, "%s: \"steps_offset\" is %d, expected 0 to 999",
                       c->config_path, d->offset);
    if (d->zero_snr && d->prediction == TS_PREDICT_NOISE)
        return ts_fail(e, TS_EMODEL,
                       "%s: \"rescale_betas_zero_snr\" with \"prediction_type\" \"epsilon\": noise "
                       "can not be predicted from noise alone",
                       c->config_path);
    return TS_OK;
}

static ts_status read_diffusion(ts_model *m, const ts_component *c)
{
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2", NULL},
                             *const predictions[] = {"epsilon", "v_prediction", "sample", NULL};
    static const char *const spacings[] = {"linspace", "leading", "trailing", NULL},
                             *const finals[] = {"zero", "sigma_min", NULL},
                             *const types[] = {"midpoint", "heun", NULL};
    static const struct {
        const char *cls;
        ts_solver_kind kind;
        const char *spacing;
        bool clip;
        bool shifts; /* CogVideoX': betas of its own, and what it says of clipping is not done */
    } classes[] = {
        {"DPMSolverMultistepScheduler", TS_DPMPP_2M, "linspace", false, false},
        {"DDIMScheduler", TS_DDIM, "leading", true, false},
        {"EulerDiscreteScheduler", TS_EULER_NOISE, "linspace", false, false},
        {"LCMScheduler", TS_LCM, "leading", false, false},
        {"EulerAncestralDiscreteScheduler", TS_EULER_ANCESTRAL, "linspace", false, false},
        {"CogVideoXDDIMScheduler", TS_DDIM, "leading", false, true},
        {"CogVideoXDPMScheduler", TS_DPMPP_2M_SDE, "leading", false, true}};
    enum { CLASSES = sizeof classes / sizeof *classes };
    ts_status st = TS_OK;
    ts_diffusion *d = &m->diffusion;
    int k = 0, beta, prediction, spacing, final, type;
    while (k < CLASSES && strcmp(classes[k].cls, c->cls)) k++;
    if (k == CLASSES) {
        char known[256] = "";
        for (int i = 0; i < CLASSES; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                     classes[i].cls);
        TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: scheduler class %s is not supported (%s)",
                    c->config_path, c->cls, known));
    }
    bool shifts = classes[k].shifts;
    words w = {.beta = "linear",
               .prediction = "epsilon",
               .final = "zero",
               .type = "midpoint",
               .range = 1,
               .clip = classes[k].clip};
    strcpy(w.spacing, classes[k].spacing);
    m->solver = classes[k].kind;
    *d = ts_diffusion_default();
    if (shifts) {
        strcpy(w.beta, "scaled_linear");
        d->beta_start = 0.00085;
        d->beta_end = 0.012;
        d->snr_shift = 3;
    }
    TRY(read_keys(m, c, d, &w));
    TRY(choose_word(m, c, "beta_schedule", w.beta, betas, &beta));
    TRY(choose_word(m, c, "prediction_type", w.prediction, predictions, &prediction));
    TRY(choose_word(m, c, "timestep_spacing", w.spacing, spacings, &spacing));
    TRY(choose_word(m, c, "final_sigmas_type", w.final, finals, &final));
    TRY(choose_word(m, c, "solver_type", w.type, types, &type));
    d->beta = (ts_beta)beta;
    d->prediction = (ts_prediction)prediction;
    d->spacing = (ts_spacing)spacing;
    d->final_min = final;
    d->heun = type;
    d->clip = w.clip && !shifts ? w.range : 0;
    TRY(check_diffusion(m, c, d));
done:
    return st;
}

ts_status ts_model_scheduler(ts_model *m)
{
    const ts_component *c = ts_model_dir_part(&m->dir, "scheduler");
    if (!c || !c->config)
        return ts_fail(&m->ctx->err, TS_EMODEL, "%s: no scheduler/scheduler_config.json",
                       m->dir.dir);
    return m->family->diffusion ? read_diffusion(m, c) : read_flow(m, c);
}
