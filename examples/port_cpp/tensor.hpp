// Numbers with a shape, row-major.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <utility>
#include <vector>

struct Tensor {
    std::vector<std::size_t> shape;
    std::vector<float> data;

    Tensor() = default;
    explicit Tensor(std::vector<std::size_t> sizes) : shape(std::move(sizes)), data(count(shape)) {}

    std::size_t width() const { return shape.empty() ? 1 : shape.back(); }
    std::size_t rows() const { return data.size() / width(); }
    float* row(std::size_t number) { return data.data() + number * width(); }
    const float* row(std::size_t number) const { return data.data() + number * width(); }

    static std::size_t count(const std::vector<std::size_t>& sizes) {
        std::size_t product = 1;
        for (std::size_t size : sizes) product *= size;
        return product;
    }
};

inline Tensor operator+(const Tensor& a, const Tensor& b) {
    if (a.shape != b.shape) throw std::runtime_error("sum of different shapes");
    Tensor sum = a;
    for (std::size_t i = 0; i < sum.data.size(); ++i) sum.data[i] += b.data[i];
    return sum;
}
