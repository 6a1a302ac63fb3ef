// Numbers that travel together: several edges or atoms at once, and values with their slope along one direction.
//
// A kernel is written once, for a type T. With T = Lanes it works on as many edges as fit into a register; with
// T = Dual the same code also carries the derivative along given directions. That makes every backward pass a double
// backward pass too. For L(x) = g . f(x), the derivatives of <v, dL/dx> are
//   by g: the slope of f along v,        by x: the slope of dL/dx along v.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#if defined(__AVX512F__)
#define REGISTER_BYTES 64
#elif defined(__AVX__)
#define REGISTER_BYTES 32
#else
#define REGISTER_BYTES 16
#endif

template <typename F>
using Lanes __attribute__((vector_size(REGISTER_BYTES))) = F;

template <typename F>
constexpr int WIDTH = REGISTER_BYTES / sizeof(F);

// Memory aligned for any of these types; containers of the library forget a register's alignment.
template <typename T>
class Buffer {
    T *memory;

   public:
    explicit Buffer(int64_t count) : memory(static_cast<T *>(std::aligned_alloc(64, (count * sizeof(T) / 64 + 1) * 64))) {}
    ~Buffer() { std::free(memory); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    T *data() { return memory; }
    const T *data() const { return memory; }
    T &operator[](int64_t i) { return memory[i]; }
    const T &operator[](int64_t i) const { return memory[i]; }
};

// Four registers side by side, where the work per number is small beside that of finding it. Four members and no array:
// the compiler then keeps them in registers.
template <typename F>
struct Wide {
    Lanes<F> a, b, c, d;
    Wide operator*(const Wide &x) const { return {a * x.a, b * x.b, c * x.c, d * x.d}; }
    Wide operator+(const Wide &x) const { return {a + x.a, b + x.b, c + x.c, d + x.d}; }
    Wide &operator+=(const Wide &x) {
        a += x.a;
        b += x.b;
        c += x.c;
        d += x.d;
        return *this;
    }
};

// Kinds of numbers.
template <typename F>
struct Narrow {
    using Scalar = F;
    using Value = Lanes<F>;
};
template <typename F>
struct Broad {
    using Scalar = F;
    using Value = Wide<F>;
};

template <typename Kind>
struct DualOf {
    using F = typename Kind::Scalar;
    typename Kind::Value value, slope;
    using Dual = DualOf;
    Dual operator+(const Dual &b) const { return {value + b.value, slope + b.slope}; }
    Dual operator-(const Dual &b) const { return {value - b.value, slope - b.slope}; }
    Dual operator*(const Dual &b) const { return {value * b.value, slope * b.value + value * b.slope}; }
    Dual operator*(F b) const { return {value * b, slope * b}; }
    Dual operator+(F b) const { return {value + b, slope}; }
    Dual &operator+=(const Dual &b) {
        value += b.value;
        slope += b.slope;
        return *this;
    }
};

template <typename F>
using Dual = DualOf<Narrow<F>>;

// Lanes or Dual. (Written out as a template's argument, Lanes of a type not yet known would lose its width.)
template <typename F, bool DUAL>
struct NumberOf {
    using type = Lanes<F>;
};
template <typename F>
struct NumberOf<F, true> {
    using type = Dual<F>;
};

template <typename T>
struct Parts {  // of Lanes
    static constexpr bool dual = false;
    using Value = T;
    static T value(const T &x) { return x; }
    static T wanted(const T &x) { return x; }  // what a pass writes: values, or slopes
    static T make(const T &value, const T &) { return value; }
};

template <typename Kind>
struct Parts<DualOf<Kind>> {
    static constexpr bool dual = true;
    using Value = typename Kind::Value;
    static Value value(const DualOf<Kind> &x) { return x.value; }
    static Value wanted(const DualOf<Kind> &x) { return x.slope; }
    static DualOf<Kind> make(const Value &value, const Value &slope) { return {value, slope}; }
};

// A function's result from its value and its derivative at x.
template <typename T>
inline T chain(const T &x, const typename Parts<T>::Value &value, const typename Parts<T>::Value &derivative) {
    if constexpr (Parts<T>::dual)
        return Parts<T>::make(value, derivative * x.slope);
    else
        return value;
}

template <typename V, typename Function>
inline V each(const V &x, Function function) {
    V out;
    for (int i = 0; i < int(sizeof(V) / sizeof(x[0])); ++i) out[i] = function(std::decay_t<decltype(x[0])>(x[i]));
    return out;
}

template <typename T>
inline T inverse(const T &x) {
    const auto value = 1 / Parts<T>::value(x);
    return chain(x, value, -value * value);
}

template <typename T>
inline T root(const T &x) {
    const auto value = each(Parts<T>::value(x), [](auto v) { return std::sqrt(v); });
    return chain(x, value, 1 / (2 * value));
}

template <typename T>
inline T sine(const T &x) {
    return chain(x, each(Parts<T>::value(x), [](auto v) { return std::sin(v); }),
                 each(Parts<T>::value(x), [](auto v) { return std::cos(v); }));
}

template <typename T>
inline T cosine(const T &x) {
    return chain(x, each(Parts<T>::value(x), [](auto v) { return std::cos(v); }),
                 -each(Parts<T>::value(x), [](auto v) { return std::sin(v); }));
}

// x to a real power, x > 0
template <typename T, typename F>
inline T power(const T &x, F exponent) {
    const auto lower = each(Parts<T>::value(x), [&](auto v) { return std::pow(v, exponent - 1); });
    return chain(x, lower * Parts<T>::value(x), exponent * lower);
}

template <typename T>
inline T hyperbolic_tangent(const T &x) {
    const auto value = each(Parts<T>::value(x), [](auto v) { return std::tanh(v); });
    return chain(x, value, 1 - value * value);
}
