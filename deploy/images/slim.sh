#!/bin/sh
# Makes the API's environment smaller: takes out what serving never opens, and the symbols that only a debugger reads.
# Arrow's RPC, ONNX Runtime's library for C++ programs and its converters, headers, tests; 120 MB, checked by the tests
# of the image, which use every route.
set -eu
cd "$1"/lib/python3.*/site-packages
rm -rf pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* pyarrow/include pyarrow/src \
    onnxruntime/capi/libonnxruntime.so* onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/datasets
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.h' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyx' -o -name '*.pyi' \) -delete
find . -type f -name '*.so*' -exec strip --strip-unneeded {} +
# A wheel holds no links, so Arrow's own library lies there three times.
cd pyarrow
for file in libarrow_python.so.*.*.*; do
    ln -sf "${file%.*.*}" "$file"
done
ln -sf "${file%.*.*}" libarrow_python.so
