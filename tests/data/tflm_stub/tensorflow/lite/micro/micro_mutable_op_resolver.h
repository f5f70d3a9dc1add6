// See ../c/common.h. The methods are those of TensorFlow Lite for Microcontrollers' header of
// this name, in its order; kernels they have none.
#ifndef STUB_MICRO_MUTABLE_OP_RESOLVER_H_
#define STUB_MICRO_MUTABLE_OP_RESOLVER_H_

#include <cstring>

#include "tensorflow/lite/c/common.h"

namespace tflite {

class MicroOpResolver {
 public:
  virtual size_t size() const = 0;
  virtual size_t capacity() const = 0;

 protected:
  ~MicroOpResolver() = default;
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  size_t size() const override { return size_; }
  size_t capacity() const override { return tOpCount; }

#define OP(method) \
  TfLiteStatus method() { return Add(#method); }
  OP(AddAbs) OP(AddAdd) OP(AddAddN) OP(AddArgMax) OP(AddArgMin) OP(AddAssignVariable)
  OP(AddAveragePool2D) OP(AddBatchMatMul) OP(AddBatchToSpaceNd) OP(AddBroadcastArgs)
  OP(AddBroadcastTo) OP(AddCallOnce) OP(AddCast) OP(AddCeil) OP(AddCircularBuffer)
  OP(AddConcatenation) OP(AddConv2D) OP(AddCos) OP(AddCumSum) OP(AddDelay) OP(AddDepthToSpace)
  OP(AddDepthwiseConv2D) OP(AddDequantize) OP(AddDetectionPostprocess) OP(AddDiv)
  OP(AddDynamicUpdateSlice) OP(AddEmbeddingLookup) OP(AddEnergy) OP(AddElu) OP(AddEqual)
  OP(AddEthosU) OP(AddExp) OP(AddExpandDims) OP(AddFftAutoScale) OP(AddFill) OP(AddFilterBank)
  OP(AddFilterBankLog) OP(AddFilterBankSquareRoot) OP(AddFilterBankSpectralSubtraction)
  OP(AddFloor) OP(AddFloorDiv) OP(AddFloorMod) OP(AddFramer) OP(AddFullyConnected) OP(AddGather)
  OP(AddGatherNd) OP(AddGreater) OP(AddGreaterEqual) OP(AddHardSwish) OP(AddIf) OP(AddIrfft)
  OP(AddL2Normalization) OP(AddL2Pool2D) OP(AddLeakyRelu) OP(AddLess) OP(AddLessEqual) OP(AddLog)
  OP(AddLogicalAnd) OP(AddLogicalNot) OP(AddLogicalOr) OP(AddLogistic) OP(AddLogSoftmax)
  OP(AddMaximum) OP(AddMaxPool2D) OP(AddMirrorPad) OP(AddMean) OP(AddMinimum) OP(AddMul) OP(AddNeg)
  OP(AddNotEqual) OP(AddOverlapAdd) OP(AddPack) OP(AddPad) OP(AddPadV2) OP(AddPCAN) OP(AddPrelu)
  OP(AddQuantize) OP(AddReadVariable) OP(AddReduceAll) OP(AddReduceMax) OP(AddReduceMin)
  OP(AddRelu) OP(AddRelu6) OP(AddReshape) OP(AddResizeBilinear) OP(AddResizeNearestNeighbor)
  OP(AddReverseV2) OP(AddRfft) OP(AddRound) OP(AddRsqrt) OP(AddSelectV2) OP(AddShape) OP(AddSin)
  OP(AddSlice) OP(AddSoftmax) OP(AddSpaceToBatchNd) OP(AddSpaceToDepth) OP(AddSplit) OP(AddSplitV)
  OP(AddSqueeze) OP(AddSqrt) OP(AddSquare) OP(AddSquaredDifference) OP(AddStridedSlice)
  OP(AddStacker) OP(AddSub) OP(AddSum) OP(AddSvdf) OP(AddTanh) OP(AddTransposeConv)
  OP(AddTranspose) OP(AddUnpack) OP(AddUnidirectionalSequenceLSTM) OP(AddVarHandle) OP(AddWhile)
  OP(AddWindow) OP(AddZerosLike)
#undef OP

 private:
  // As the real one: each once, and no more than there is room for.
  TfLiteStatus Add(const char* method) {
    for (size_t i = 0; i < size_; ++i) {
      if (std::strcmp(methods_[i], method) == 0) return kTfLiteError;
    }
    if (size_ >= tOpCount) return kTfLiteError;
    methods_[size_++] = method;
    return kTfLiteOk;
  }

  const char* methods_[tOpCount] = {};
  size_t size_ = 0;
};

}  // namespace tflite

#endif  // STUB_MICRO_MUTABLE_OP_RESOLVER_H_
