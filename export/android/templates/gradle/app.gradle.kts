plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "{{ package }}"
    compileSdk = {{ versions.sdk }}

    defaultConfig {
        applicationId = "{{ package }}"
        minSdk = {{ versions.min_sdk }}
        targetSdk = {{ versions.sdk }}
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    androidResources { noCompress += "tflite" }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
{% for line in gradle %}
    implementation("{{ line }}")
{% endfor %}

    androidTestImplementation("junit:junit:{{ versions.junit }}")
    androidTestImplementation("androidx.test:runner:{{ versions.test_runner }}")
    androidTestImplementation("androidx.test.ext:junit:{{ versions.test_junit }}")
}
