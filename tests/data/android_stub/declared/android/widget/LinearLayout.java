package android.widget;

import android.content.Context;

public class LinearLayout extends android.view.ViewGroup {
    public static final int VERTICAL = 1;

    public LinearLayout(Context context) {}

    public int getOrientation() { return 0; }

    public void setOrientation(int orientation) {}
}
