package android.widget;

import android.view.View;

public abstract class AdapterView<T extends Adapter> extends android.view.ViewGroup {
    public interface OnItemSelectedListener {
        void onItemSelected(AdapterView<?> parent, View view, int position, long id);

        void onNothingSelected(AdapterView<?> parent);
    }

    public void setOnItemSelectedListener(OnItemSelectedListener listener) {}

    public final OnItemSelectedListener getOnItemSelectedListener() { return null; }
}
