# {{ name }} for a project that STM32CubeMX made with CMake: in its CMakeLists.txt, at the end,
#   include(cmake/{{ name }}_model.cmake)
# with TFLM and TFLM_LIBRARY set. Written by tfkd {{ version }}.
if(NOT EXISTS "${TFLM}/tensorflow/lite/micro/micro_interpreter.h")
  message(FATAL_ERROR "TFLM='${TFLM}' is no checkout of TensorFlow Lite for Microcontrollers: "
                      "give -DTFLM=FOLDER")
endif()
if(NOT EXISTS "${TFLM_LIBRARY}")
  message(FATAL_ERROR "TFLM_LIBRARY='${TFLM_LIBRARY}' is no file: give the library of TFLM that "
                      "was built for this chip")
endif()
enable_language(CXX)
target_sources(${CMAKE_PROJECT_NAME} PRIVATE
{% for source in sources + ["Core/Src/" ~ name ~ "_example.cc"] %}
  ${CMAKE_SOURCE_DIR}/{{ source }}{{ ")" if loop.last }}
{% endfor %}
target_compile_features(${CMAKE_PROJECT_NAME} PRIVATE cxx_std_17)
target_compile_definitions(${CMAKE_PROJECT_NAME} PRIVATE TF_LITE_STATIC_MEMORY)
target_include_directories(${CMAKE_PROJECT_NAME} PRIVATE ${CMAKE_SOURCE_DIR}/Core/Inc)
target_include_directories(${CMAKE_PROJECT_NAME} SYSTEM PRIVATE ${TFLM}
  ${TFLM}/tensorflow/lite/micro/tools/make/downloads/flatbuffers/include
  ${TFLM}/tensorflow/lite/micro/tools/make/downloads/gemmlowp)
target_link_libraries(${CMAKE_PROJECT_NAME} ${TFLM_LIBRARY})
