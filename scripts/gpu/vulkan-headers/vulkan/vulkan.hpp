// Vulkan's C++ header of the system, and what llama.cpp names that Debian 12's (1.3.239) does not have yet: the settings
// of layers, which it hands over when it creates its instance. A loader that does not know them passes over them.
#pragma once
#include_next <vulkan/vulkan.hpp>

#ifndef VK_EXT_layer_settings

#include <cstdint>
#include <vector>

namespace VULKAN_HPP_NAMESPACE {

enum class LayerSettingTypeEXT : int32_t { eBool32 = 0 };

// Order and types of both are Vulkan's: a driver would read them as they lie in memory.
struct LayerSettingEXT {
    const char * layer;
    const char * name;
    LayerSettingTypeEXT type;
    uint32_t values;
    const void * first_value;
};

struct LayerSettingsCreateInfoEXT {
    // The compiler's view of the enumeration knows no such value; the number is the registry's.
    int32_t kind = 1000496000;
    const void * next = nullptr;
    uint32_t count;
    const LayerSettingEXT * settings;

    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & all) : count(uint32_t(all.size())), settings(all.data()) {}
};

}

#endif
