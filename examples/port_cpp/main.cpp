// Reads fixtures, computes their outputs, and writes them for `toolkit fixtures check`.
//
//     port FIXTURES RESULTS [gelu|scale|post-norm]
//
// The third argument makes a mistake on purpose, to see that it is found.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "json.hpp"
#include "layers.hpp"

namespace {

using Parameters = Json;

AttentionWeights projections(const Parameters& p, const std::string& w, const std::string& b,
                             const std::vector<std::string>& parts) {
    return {p.tensor_at(w + parts[0]), p.tensor_at(b + parts[0]), p.tensor_at(w + parts[1]),
            p.tensor_at(b + parts[1]), p.tensor_at(w + parts[2]), p.tensor_at(b + parts[2]),
            p.tensor_at(w + parts[3]), p.tensor_at(b + parts[3])};
}

AttentionWeights attention_weights(const Parameters& p) {
    return projections(p, "W_", "B_", {"query", "key", "value", "out"});
}

Tensor transformer(const Tensor& x, const Parameters& p, std::size_t num_heads,
                   const Options& options) {
    const auto weights = projections(p, "attn_w", "attn_b", {"q", "k", "v", "out"});
    const auto norm = [&](const Tensor& y, const std::string& name) {
        return layer_norm(y, p.tensor_at(name + "_scale"), p.tensor_at(name + "_shift"), options.eps);
    };
    const auto mlp = [&](const Tensor& y) {
        return feed_forward(y, p.tensor_at("ff_w1"), p.tensor_at("ff_b1"), p.tensor_at("ff_w2"),
                            p.tensor_at("ff_b2"), options);
    };
    Attention attention(weights, num_heads, options);
    if (options.mistake == "post-norm") {
        const Tensor y = norm(x + attention.forward(x), "norm1");
        return norm(y + mlp(y), "norm2");
    }
    const Tensor y = x + attention.forward(norm(x, "norm1"));
    return y + mlp(norm(y, "norm2"));
}

Tensor compute(const std::string& name, const Json& fixture, Options options) {
    const Tensor& x = fixture.tensor_at("input");
    const Parameters& p = fixture.at("parameters");
    const Json& config = fixture.at("meta").at("config");
    if (config.object.count("eps")) options.eps = config.number_at("eps");
    const auto num_heads = [&] { return static_cast<std::size_t>(config.number_at("num_heads")); };
    if (name == "gelu") return gelu(x, false, options);
    if (name == "gelu_exact") return gelu(x, true, options);
    if (name == "linear") return linear(x, p.tensor_at("weight"), p.tensor_at("bias"));
    if (name == "layernorm")
        return layer_norm(x, p.tensor_at("scale"), p.tensor_at("shift"), options.eps);
    if (name == "add") return x + p.tensor_at("in1");
    if (name == "attention")
        return Attention(attention_weights(p), num_heads(), options).forward(x);
    if (name == "feedforward")
        return feed_forward(x, p.tensor_at("weight1"), p.tensor_at("bias1"),
                            p.tensor_at("weight2"), p.tensor_at("bias2"), options);
    return transformer(x, p, num_heads(), options);
}

void write_sequence(std::ostream& out, const Json& fixture, const Options& options) {
    const auto heads = static_cast<std::size_t>(fixture.at("config").number_at("num_heads"));
    Attention attention(attention_weights(fixture.at("parameters")), heads, options);
    out << "{\"steps\":[";
    bool first = true;
    for (const Json& step : fixture.at("steps").list) {
        out << (first ? "" : ",") << "{\"output\":";
        write_json(out, attention.forward(step.tensor_at("input")));
        out << "}";
        first = false;
    }
    out << "]}\n";
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> names = {
        "gelu",      "gelu_exact",  "linear",      "layernorm",         "add",
        "attention", "feedforward", "transformer", "attention_sequence"};
    const std::vector<std::string> mistakes = {"", "gelu", "scale", "post-norm"};
    Options options;
    if (argc == 4) options.mistake = argv[3];
    const bool known = std::count(mistakes.begin(), mistakes.end(), options.mistake) > 0;
    if (argc < 3 || argc > 4 || !known) {
        std::cerr << "usage: port FIXTURES RESULTS [gelu|scale|post-norm]\n";
        return 2;
    }
    const std::filesystem::path fixtures = argv[1], results = argv[2];
    try {
        std::filesystem::create_directories(results);
        for (const std::string& name : names) {
            const std::string file = name + "_test.json";
            const Json fixture = JsonReader::read((fixtures / file).string());
            std::ofstream out(results / file);
            if (name == "attention_sequence") {
                write_sequence(out, fixture, options);
            } else {
                out << "{\"output\":";
                write_json(out, compute(name, fixture, options));
                out << "}\n";
            }
            if (!out) throw std::runtime_error("cannot write " + file);
        }
    } catch (const std::exception& error) {
        std::cerr << "port: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
