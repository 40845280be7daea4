// The layers of GPT-2, plainly. Weights are [out, in]. B batch, T time, C channels, D head width.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensor.hpp"

// A mistake to make on purpose: "gelu", "scale" or "post-norm"; empty makes none.
struct Options {
    std::string mistake;
    float eps = 1e-5f;
};

inline float gelu_tanh(float x) {
    const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + std::tanh(inner));
}

inline float gelu_exact(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.7071067812f)); }

inline Tensor gelu(const Tensor& x, bool exact, const Options& options) {
    Tensor y = x;
    if (options.mistake == "gelu") exact = !exact;
    for (float& value : y.data) value = exact ? gelu_exact(value) : gelu_tanh(value);
    return y;
}

// (…, in) to (…, out)
inline Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const std::size_t n_out = weight.shape.at(0), n_in = weight.shape.at(1);
    if (x.width() != n_in) throw std::runtime_error("linear: the weight does not fit the input");
    std::vector<std::size_t> shape = x.shape;
    shape.back() = n_out;
    Tensor y(shape);
    for (std::size_t row = 0; row < x.rows(); ++row) {
        for (std::size_t out = 0; out < n_out; ++out) {
            float sum = 0.0f;
            for (std::size_t in = 0; in < n_in; ++in) sum += x.row(row)[in] * weight.row(out)[in];
            y.row(row)[out] = sum + bias.data[out];
        }
    }
    return y;
}

inline Tensor layer_norm(const Tensor& x, const Tensor& scale, const Tensor& shift, float eps) {
    Tensor y = x;
    const std::size_t width = x.width();
    for (std::size_t row = 0; row < x.rows(); ++row) {
        float* values = y.row(row);
        float mean = 0.0f, variance = 0.0f;
        for (std::size_t i = 0; i < width; ++i) mean += values[i];
        mean /= static_cast<float>(width);
        for (std::size_t i = 0; i < width; ++i) variance += (values[i] - mean) * (values[i] - mean);
        variance /= static_cast<float>(width);
        const float inverse = 1.0f / std::sqrt(variance + eps);
        for (std::size_t i = 0; i < width; ++i)
            values[i] = (values[i] - mean) * inverse * scale.data[i] + shift.data[i];
    }
    return y;
}

// Weight and bias of the projections of queries, keys, values, and the output.
struct AttentionWeights {
    const Tensor &wq, &bq, &wk, &bk, &wv, &bv, &wo, &bo;
};

// Causal attention with a cache: each call appends its tokens, which see all before them.
class Attention {
  public:
    Attention(const AttentionWeights& weights, std::size_t num_heads, const Options& options)
        : w_(weights), num_heads_(num_heads), options_(options) {}

    // (B, T, C) to (B, T, C)
    Tensor forward(const Tensor& x) {
        const std::size_t batch = x.shape.at(0), time = x.shape.at(1), width = x.width();
        const std::size_t head_dim = width / num_heads_;
        const Tensor q = linear(x, w_.wq, w_.bq);
        append(keys_, linear(x, w_.wk, w_.bk));
        append(values_, linear(x, w_.wv, w_.bv));
        const std::size_t past = length_;
        length_ += time;
        float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
        if (options_.mistake == "scale") scale = 1.0f;

        Tensor mixed(x.shape);
        std::vector<float> weights(length_);
        for (std::size_t b = 0; b < batch; ++b) {
            for (std::size_t t = 0; t < time; ++t) {
                for (std::size_t h = 0; h < num_heads_; ++h) {
                    const std::size_t first = h * head_dim;
                    const std::size_t seen = past + t + 1;
                    const float* query = q.row(b * time + t) + first;
                    float highest = -std::numeric_limits<float>::infinity(), total = 0.0f;
                    for (std::size_t s = 0; s < seen; ++s) {
                        const float* key = keys_[b].data() + s * width + first;
                        float score = 0.0f;
                        for (std::size_t d = 0; d < head_dim; ++d) score += query[d] * key[d];
                        weights[s] = score * scale;
                        highest = std::max(highest, weights[s]);
                    }
                    for (std::size_t s = 0; s < seen; ++s) {
                        weights[s] = std::exp(weights[s] - highest);
                        total += weights[s];
                    }
                    float* result = mixed.row(b * time + t) + first;
                    for (std::size_t s = 0; s < seen; ++s) {
                        const float* value = values_[b].data() + s * width + first;
                        for (std::size_t d = 0; d < head_dim; ++d)
                            result[d] += weights[s] / total * value[d];
                    }
                }
            }
        }
        return linear(mixed, w_.wo, w_.bo);
    }

  private:
    using Cache = std::vector<std::vector<float>>;  // of each sequence: rows of C, one after another

    static void append(Cache& cache, const Tensor& x) {
        const std::size_t batch = x.shape[0], size = x.data.size() / batch;
        cache.resize(batch);
        for (std::size_t b = 0; b < batch; ++b) {
            const float* start = x.data.data() + b * size;
            cache[b].insert(cache[b].end(), start, start + size);
        }
    }

    AttentionWeights w_;
    std::size_t num_heads_;
    Options options_;
    Cache keys_, values_;
    std::size_t length_ = 0;
};

inline Tensor feed_forward(const Tensor& x, const Tensor& weight1, const Tensor& bias1,
                           const Tensor& weight2, const Tensor& bias2, const Options& options) {
    return linear(gelu(linear(x, weight1, bias1), false, options), weight2, bias2);
}
