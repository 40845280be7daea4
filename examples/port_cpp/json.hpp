// As much of JSON as fixtures need: objects, texts, numbers, and nested lists of numbers as tensors.
#pragma once

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <map>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tensor.hpp"

struct Json {
    enum class Kind { nothing, text, tensor, list, object };
    Kind kind = Kind::nothing;
    std::string text;
    Tensor tensor;  // a number has no dimensions
    std::vector<Json> list;
    std::map<std::string, Json> object;

    const Json& at(const std::string& key) const {
        auto found = object.find(key);
        if (found == object.end()) throw std::runtime_error("missing: " + key);
        return found->second;
    }
    const Tensor& tensor_at(const std::string& key) const {
        const Json& value = at(key);
        if (value.kind != Kind::tensor) throw std::runtime_error("not numbers: " + key);
        return value.tensor;
    }
    float number_at(const std::string& key) const { return tensor_at(key).data.at(0); }
};

class JsonReader {
  public:
    static Json read(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) throw std::runtime_error("cannot open " + path);
        std::ostringstream whole;
        whole << file.rdbuf();
        const std::string source = whole.str();
        JsonReader reader(source.data(), source.data() + source.size());
        return reader.value();
    }

  private:
    const char* here_;
    const char* end_;

    JsonReader(const char* begin, const char* end) : here_(begin), end_(end) {}

    char next() {
        while (here_ != end_ && (*here_ == ' ' || *here_ == '\n' || *here_ == '\r' || *here_ == '\t'))
            ++here_;
        if (here_ == end_) throw std::runtime_error("JSON ends too early");
        return *here_;
    }

    void take(char expected) {
        if (next() != expected) throw std::runtime_error(std::string("expected ") + expected);
        ++here_;
    }

    bool took(char wanted) {
        if (next() != wanted) return false;
        ++here_;
        return true;
    }

    Json value() {
        switch (next()) {
            case '{': return object();
            case '[': return list();
            case '"': {
                Json result;
                result.kind = Json::Kind::text;
                result.text = text();
                return result;
            }
            case 't': return word("true");
            case 'f': return word("false");
            case 'n': return word("null");
            default: return number();
        }
    }

    Json word(const std::string& expected) {
        for (char letter : expected) {
            if (here_ == end_ || *here_ != letter) throw std::runtime_error("not " + expected);
            ++here_;
        }
        return Json();
    }

    Json number() {
        float parsed = 0.0f;
        const auto [after, error] = std::from_chars(here_, end_, parsed);
        if (error == std::errc::result_out_of_range) {
            // Too small or too large for a float: strtof gives the nearest one.
            parsed = std::strtof(std::string(here_, after).c_str(), nullptr);
        } else if (error != std::errc()) {
            throw std::runtime_error("expected a number");
        }
        here_ = after;
        Json result;
        result.kind = Json::Kind::tensor;
        result.tensor.data = {parsed};
        return result;
    }

    std::string text() {
        take('"');
        std::string result;
        while (here_ != end_ && *here_ != '"') {
            if (*here_ == '\\') ++here_;  // the names in fixtures need no more than this
            if (here_ != end_) result += *here_++;
        }
        if (here_ == end_) throw std::runtime_error("a text does not end");
        ++here_;
        return result;
    }

    Json object() {
        Json result;
        result.kind = Json::Kind::object;
        take('{');
        if (took('}')) return result;
        do {
            next();
            std::string key = text();
            take(':');
            result.object.emplace(std::move(key), value());
        } while (took(','));
        take('}');
        return result;
    }

    // Items that are tensors of one shape become one tensor with a dimension more.
    Json list() {
        Json result;
        result.kind = Json::Kind::tensor;
        std::size_t count = 0;
        std::vector<std::size_t> inner;
        take('[');
        if (!took(']')) {
            do {
                Json item = value();
                ++count;
                if (count == 1) {
                    inner = item.tensor.shape;
                    if (item.kind != Json::Kind::tensor) result.kind = Json::Kind::list;
                }
                if (result.kind == Json::Kind::list) {
                    result.list.push_back(std::move(item));
                    continue;
                }
                if (item.kind != Json::Kind::tensor || item.tensor.shape != inner)
                    throw std::runtime_error("a list of different shapes");
                const auto& numbers = item.tensor.data;
                result.tensor.data.insert(result.tensor.data.end(), numbers.begin(), numbers.end());
            } while (took(','));
            take(']');
        }
        result.tensor.shape.push_back(count);
        result.tensor.shape.insert(result.tensor.shape.end(), inner.begin(), inner.end());
        return result;
    }
};

// Nested lists; each number in the shortest form that reads back as the same float.
inline void write_json(std::ostream& out, const Tensor& tensor, std::size_t axis = 0,
                       std::size_t start = 0) {
    if (axis == tensor.shape.size()) {
        const float number = tensor.data[start];
        if (number != number || number - number != 0.0f) {  // NaN or infinite
            out << (number != number ? "\"NaN\"" : number > 0 ? "\"Infinity\"" : "\"-Infinity\"");
            return;
        }
        char letters[32];
        const auto result = std::to_chars(letters, letters + sizeof letters, number);
        out.write(letters, result.ptr - letters);
        return;
    }
    std::size_t step = 1;
    for (std::size_t i = axis + 1; i < tensor.shape.size(); ++i) step *= tensor.shape[i];
    out << '[';
    for (std::size_t i = 0; i < tensor.shape[axis]; ++i) {
        if (i) out << ',';
        write_json(out, tensor, axis + 1, start + i * step);
    }
    out << ']';
}
